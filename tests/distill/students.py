"""A base model that trains in seconds: SmolLM2's tokenizer, two random layers; and its data."""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from recbole_exp3rt.llm.card import pair_digest
from recbole_exp3rt.llm.local.smollm2 import smollm2_folder
from recbole_exp3rt.prompts import load_prompts
from recbole_exp3rt.records import Description, Profile
from recbole_exp3rt.scale import RatingScale
from recbole_exp3rt.stages.rating import Pair, messages

TOKENS = 8192
SCALE = RatingScale.between(1, 10)
PROMPTS = load_prompts()


def tiny_llama(folder: Path) -> Path:
    """Two layers of width 32, wide enough weights to have preferences."""
    AutoTokenizer.from_pretrained(smollm2_folder()).save_pretrained(folder)
    keep_first_tokens(folder / "tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def keep_first_tokens(file: Path) -> None:
    """A sixth of the vocabulary, and the merges that make it: output layers take most time."""
    state = json.loads(file.read_text(encoding="utf-8"))
    model = state["model"]
    model["vocab"] = {token: k for token, k in model["vocab"].items() if k < TOKENS}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    file.write_text(json.dumps(state), encoding="utf-8")


def rating_messages(k: int, plot: str = "A quiet film about rain.", bullets: int = 2):
    """What the rating prompt of a pair number `k` says."""
    likes = tuple(f"taste {k} and {n}" for n in range(bullets))
    pair = Pair(
        Profile("user", f"u{k}", likes, ("noise",)),
        Profile("item", f"i{k}", ("rain",), ()),
        Description(f"i{k}", (("Title", f"Film {k}"), ("Plot", plot))),
        user_average=5.5,
        item_average=7.0,
    )
    return messages(pair, PROMPTS, SCALE, item_word="movie", use_reasoning=True)


def rating_answer(k: int) -> str:
    return (
        f"Reasoning: The rain suits taste {k}. The noise does not.\nPredicted User Rating: {k % 10}"
    )


LISTS = "[Like]\n- rain\n- slow music\n\n[Dislike]\nNone."


def write_data(folder: Path, train: int = 12, valid: int = 4, tasks=("rating",)) -> Path:
    """A training data folder with its card."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        for part, rows in (("train", range(train)), ("valid", range(train, train + valid))):
            lines = []
            for k in rows:
                asked = [{"role": m.role, "content": m.content} for m in rating_messages(k)]
                answer = rating_answer(k) if task == "rating" else LISTS
                lines.append({"messages": [*asked, {"role": "assistant", "content": answer}]})
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{task}.{part}.jsonl").write_text(text)
    card = {
        "dataset": "made-up",
        "split": "0123",
        "teacher": {"rating": "nobody"},
        "prompts": "abcd",
        "train_pairs": [pair_digest(f"u{k}", f"i{k}") for k in range(train)],
        "synthetic": True,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder
