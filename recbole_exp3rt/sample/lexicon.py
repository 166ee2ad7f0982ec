"""Twelve features of movies, called tastes, and the phrases with which reviews mention them.

A phrase is either a frame around one of a taste's images ("{} won me over") or one of the taste's
own phrases. All texts are written for this package; none comes from a real review.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taste:
    """A feature: its `name` in preferences and profiles, and its phrases in reviews."""

    name: str
    images: tuple[str, ...]
    liked: tuple[str, ...]
    disliked: tuple[str, ...]
    article: str = ""

    @property
    def named(self) -> str:
        """The name as a sentence has it: `a slow pace`, `lush music`."""
        return f"{self.article} {self.name}".lstrip()


LIKED_FRAMES = (
    "I loved {}",
    "{} won me over",
    "I could not get enough of {}",
    "{} made my evening",
    "hats off to {}",
    "I was delighted by {}",
    "{} kept me smiling",
    "I would go back for {} alone",
    "{} hit the spot",
    "I savoured {}",
)
DISLIKED_FRAMES = (
    "{} put me off",
    "I had no patience for {}",
    "{} wore me out",
    "I could have done without {}",
    "{} spoiled it for me",
    "I struggled with {}",
    "{} left me cold",
    "I was annoyed by {}",
    "I kept wishing away {}",
    "{} lost me completely",
)
NEUTRAL_FRAMES = ("as announced, it has {}", "the trailer had shown {}", "people talk about {}")

TASTES = (
    Taste(
        "slow pace",
        (
            "the unhurried tempo",
            "the way it takes its time",
            "the long quiet takes",
            "the gentle crawl of the story",
            "the slow burn",
        ),
        (
            "I was glad to sit still and let it breathe",
            "nothing rushes here and that did me good",
            "it drifts along and I drifted happily with it",
        ),
        (
            "my watch got more attention than the screen",
            "it drags its feet until I nearly dozed off",
            "half an hour could go and nobody would notice",
        ),
        article="a",
    ),
    Taste(
        "dark humour",
        (
            "the pitch-black jokes",
            "the gallows wit",
            "the laughs at the worst moments",
            "the morbid gags",
            "the bitter comedy",
        ),
        (
            "I giggled at a funeral and felt no shame",
            "it is wickedly funny where it hurts",
            "few things are as grimly hilarious",
        ),
        (
            "joking about misery is beneath it",
            "I found the cruel punchlines sour",
            "mocking the dying never made me laugh",
        ),
    ),
    Taste(
        "grand visuals",
        (
            "the sweeping vistas",
            "the huge painterly frames",
            "the breathtaking scenery",
            "the lavish camera work",
            "the splendour of the images",
        ),
        (
            "every shot could hang on my wall",
            "my eyes were feasting from start to finish",
            "see it on the largest screen there is",
        ),
        (
            "it is a postcard rack and nothing more",
            "so much polish tired my eyes",
            "pretty pictures cannot feed me for two hours",
        ),
    ),
    Taste(
        "twisting plot",
        (
            "the constant reversals",
            "the rug-pull near the end",
            "the maze of a story",
            "the secrets within secrets",
            "the final reveal",
        ),
        (
            "I never guessed what came next and cheered for it",
            "it fooled me twice and I thanked it",
            "my jaw dropped at each new turn",
        ),
        (
            "one trick too many and I stopped caring",
            "I needed a map and resented it",
            "it turns so often that nothing matters",
        ),
        article="a",
    ),
    Taste(
        "tender romance",
        (
            "the shy love story",
            "the couple at its heart",
            "the soft courtship scenes",
            "the lingering glances",
            "the love letters",
        ),
        (
            "my heart melted when they held hands",
            "I sighed happily at each stolen kiss",
            "I wanted these two together from the first minute",
        ),
        (
            "all the swooning made me roll my eyes",
            "too much kissing and cooing for my blood",
            "the sugar of those sweethearts gave me toothache",
        ),
        article="a",
    ),
    Taste(
        "loud action",
        (
            "the thundering chases",
            "the non-stop brawls",
            "the explosions",
            "the bruising fight scenes",
            "the screeching car stunts",
        ),
        (
            "my pulse was racing and I wanted more",
            "it goes boom in all the right ways",
            "I gripped my seat with joy at every crash",
        ),
        (
            "all that noise gave me a headache",
            "things blow up and I yawned",
            "one more punch-up and I would have walked out",
        ),
    ),
    Taste(
        "moral depth",
        (
            "the hard questions about guilt",
            "the wrestling with right and wrong",
            "the ethical knots",
            "the troubled conscience at its core",
            "the weighty choices",
        ),
        (
            "we argued about justice all the way home and enjoyed it",
            "it made me examine my own heart, gratefully",
            "I like to be asked what I would have done",
        ),
        (
            "it preaches and I did not come for a sermon",
            "the finger-wagging became a chore",
            "I felt lectured about virtue",
        ),
    ),
    Taste(
        "eerie mood",
        (
            "the creeping dread",
            "the ghostly hush",
            "the uncanny shadows",
            "the chill in every corridor",
            "the sense that something lurks",
        ),
        (
            "I slept with the light on and grinned about it",
            "goosebumps all over, just how I want it",
            "it is deliciously spooky",
        ),
        (
            "being spooked is no pleasure of mine",
            "I watched through my fingers and hated that",
            "it is gloomy to the point of misery",
        ),
        article="an",
    ),
    Taste(
        "witty dialogue",
        (
            "the rapid banter",
            "the razor-sharp lines",
            "the clever back-and-forth",
            "the quotable comebacks",
            "the verbal sparring",
        ),
        (
            "I wrote down half of what they say",
            "everybody speaks as I wish I could",
            "the talk sparkles like good wine",
        ),
        (
            "nobody talks that smugly in real life",
            "they chatter and chatter to show off",
            "too pleased with its own cleverness in every line",
        ),
    ),
    Taste(
        "lush music",
        (
            "the soaring score",
            "the rich orchestra",
            "the songs",
            "the melody that keeps returning",
            "the swelling strings",
        ),
        (
            "I hummed it all week with pleasure",
            "close your eyes and it is a wonderful concert",
            "I bought the record the same night",
        ),
        (
            "the violins would not shut up",
            "it drowns each scene in syrupy sound",
            "somebody please turn down the trumpets",
        ),
    ),
    Taste(
        "period detail",
        (
            "the lovingly stitched costumes",
            "the candlelit old rooms",
            "the carefully rebuilt past",
            "the heirloom props",
            "the old-world streets",
        ),
        (
            "I felt carried to another century and wanted to stay",
            "each button and teacup is right, bless them",
            "history came alive for me",
        ),
        (
            "it is a dusty museum and I was locked in",
            "more care went into bonnets than into people",
            "old furniture does not thrill me",
        ),
    ),
    Taste(
        "open ending",
        (
            "the unresolved finish",
            "the loose threads at the close",
            "the question mark it ends on",
            "the fade-out without answers",
            "the last scene that settles nothing",
        ),
        (
            "I am still happily guessing how it ends",
            "it trusts me to finish the tale, thank you",
            "I like that it closes no door",
        ),
        (
            "I paid for an ending and got none",
            "it just stops and I felt cheated",
            "would it hurt to tell us what happened",
        ),
        article="an",
    ),
)

FILLERS = (
    "I saw it on a rainy Sunday.",
    "A neighbour had lent me the disc.",
    "We watched it after dinner.",
    "The hall was half full.",
    "I had read nothing about it before.",
    "This was my second viewing.",
    "It ran late on television.",
    "My cousin chose it for movie night.",
    "I caught it at a small festival.",
    "It had been on my list for years.",
    "The print was a little worn.",
    "I watched it on a long train ride.",
)
WARM_CLOSERS = (
    "A good choice on the whole.",
    "I may well see it again.",
    "Time well spent.",
    "Worth a look.",
)
COOL_CLOSERS = (
    "Once is enough.",
    "I expected more.",
    "It did not stay with me.",
    "Hard to recommend.",
)


def phrase(taste: Taste, liked: bool, rng: random.Random) -> str:
    """A random phrase that says that `taste` was liked or disliked."""
    own, frames = (taste.liked, LIKED_FRAMES) if liked else (taste.disliked, DISLIKED_FRAMES)
    if rng.random() < 0.35:
        return rng.choice(own)
    return rng.choice(frames).format(rng.choice(taste.images))


def mentions(text: str) -> Iterator[tuple[int, Taste, bool]]:
    """(position, taste, liked) of every phrase of the lexicon in `text`, in order of tastes."""
    lowered = text.lower()
    for taste in TASTES:
        for liked, own, frames in (
            (True, taste.liked, LIKED_FRAMES),
            (False, taste.disliked, DISLIKED_FRAMES),
        ):
            framed = (frame.format(i) for i in taste.images if i in lowered for frame in frames)
            for words in (*own, *framed):
                position = lowered.find(words.lower())
                if position >= 0:
                    yield position, taste, liked
