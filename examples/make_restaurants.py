"""Makes restaurants.csv, 600 made-up reviews: `python examples/make_restaurants.py`.

Each guest cares for a few of ten topics and each restaurant is good or bad at some; stars and
sentences follow from both, so there is something to be learned. All names are invented.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

SEED, REVIEWS, GUESTS = 7, 600, 60
HEADER = ("guest", "restaurant", "cuisine", "stars", "visited", "review")

RESTAURANTS = {
    "Thai": ["Blue Lantern", "Lemongrass Pier", "The Paper Boat"],
    "Italian": ["Olive & Ember", "Casa Tondo", "The Copper Ladle", "Piccola Luna"],
    "Mexican": ["Agave Yard", "Tres Comales", "El Patio Verde"],
    "Indian": ["Saffron Steps", "The Clove Garden", "Marigold House"],
    "Japanese": ["Willow & Rice", "Kumo Counter", "The Folded Crane"],
    "French": ["Le Petit Quai", "Maison Verrier", "The Velvet Spoon"],
    "Seafood": ["Salt, Smoke & Co.", "Harbour Nine", "The Tin Anchor"],
    "Bakery": ["Crumb & Kettle", 'The "Quiet" Fork', "Golden Hour Bakes"],
    "Grill": ["Oak & Iron", "The Lazy Skillet", "Ember Row"],
    "Vegetarian": ["Green Thimble", "Root & Branch"],
}
# topic -> what is written where a restaurant is good at it, and where it is not
TOPICS = {
    "service": (
        ["The waiters were quick and kind.", "Friendly staff, we never had to ask twice."],
        ["We waited forty minutes for the menu.", "The service was slow and a little rude."],
    ),
    "spice": (
        ["The curry had real heat.", "Spicy in the best way."],
        ["Everything tasted flat, no spice at all.", "Far too mild for my taste."],
    ),
    "quiet": (
        ["A calm room where you can talk.", "Quiet tables, soft light."],
        ["So loud that we had to shout.", "The music was too loud, sadly."],
    ),
    "price": (
        ["Very good value.", "Cheap, and still generous."],
        ["Overpriced for what it is.", "The bill was a shock: 80 for two, without wine."],
    ),
    "portions": (
        ["Huge portions.", "I could not finish my plate."],
        ["The portions are tiny.", "I left hungry."],
    ),
    "dessert": (
        ["The lemon tart was a dream.", "Save room for dessert, it is wonderful."],
        ["The dessert came straight from the freezer.", "The cake was dry."],
    ),
    "vegetables": (
        ["Lots of fresh vegetable dishes.", "The grilled greens were the star."],
        ["Hardly anything without meat.", "The vegetables were overcooked."],
    ),
    "fish": (
        ["The fish was perfectly fresh.", "Best grilled trout in town."],
        ["The fish smelled old.", "My salmon was dry and cold."],
    ),
    "wine": (
        ["A wine list with care.", "They know their wines."],
        ["The house wine was sour.", "Only two wines, both warm."],
    ),
    "view": (
        ["Lovely terrace with a view.", "We sat by the window and watched the boats."],
        ["A dark room without a window.", "The tables stand much too close together."],
    ),
}
OPENINGS = ["", "", "Second visit. ", "Came here for lunch. ", "Birthday dinner, six of us. "]
CLOSINGS = {
    1: ["Never again.", 'The host said "come back soon", but no.'],
    2: ["Not for me.", "I expected more."],
    3: ["Fine, nothing more.", "It was okay."],
    4: ["I will come back.", "A good evening, all in all."],
    5: ["My favourite place, honestly!", 'My sister called it "perfect", and I agree.'],
}


def rows(seed: int = SEED) -> Iterator[tuple[object, ...]]:
    """The reviews by date, as `HEADER` names their values; the same for the same seed."""
    rng = random.Random(seed)
    topics = list(TOPICS)
    places = [(name, cuisine) for cuisine, names in RESTAURANTS.items() for name in names]
    quality = {name: {t: rng.choice([-1, -1, 0, 1, 1]) for t in topics} for name, _ in places}
    cares = {f"guest{n:03}": rng.sample(topics, 4) for n in range(1, GUESTS + 1)}
    mood = {guest: rng.gauss(0.3, 0.5) for guest in cares}
    pairs = [(guest, place) for guest in cares for place in rng.sample(places, 10)]
    days = sorted(rng.randrange(730) for _ in pairs)
    rng.shuffle(pairs)
    for number, (day, (guest, (name, cuisine))) in enumerate(zip(days, pairs, strict=True)):
        felt = [quality[name][topic] for topic in cares[guest]]
        stars = min(5, max(1, round(3 + mood[guest] + 0.75 * sum(felt) + rng.gauss(0, 0.4))))
        said = [t for t in cares[guest] if quality[name][t]] or cares[guest][:1]
        said += rng.sample([t for t in topics if t not in said and quality[name][t]], 1)
        rng.shuffle(said)
        sentences = [rng.choice(TOPICS[t][0 if quality[name][t] >= 0 else 1]) for t in said]
        ending = "\n" if number % 40 == 7 else " "
        review = rng.choice(OPENINGS) + " ".join(sentences) + ending + rng.choice(CLOSINGS[stars])
        visited = date(2023, 1, 1) + timedelta(days=day)
        yield (
            guest,
            name,
            cuisine,
            "" if number == 123 else stars,
            visited.strftime("%d/%m/%Y"),
            "" if number == 321 else review,
        )


def main() -> None:
    """Write restaurants.csv beside this script."""
    path = Path(__file__).with_name("restaurants.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows())


if __name__ == "__main__":
    main()
