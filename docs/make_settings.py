"""Prints docs/settings.md: every setting, made from the comments of the yaml files.

python docs/make_settings.py > docs/settings.md
"""

from __future__ import annotations

from recbole_exp3rt.config.described import Group, groups_of, models

HEAD = """# Settings

Made by `python docs/make_settings.py > docs/settings.md` from the files in
[properties/](../properties); change those.

Every setting can be given on the command line (`--key=value` or `--key value`), in YAML files
(`--config_files "a.yaml b.yaml"`) or in a dictionary from Python. Later ones win, the command line
last. An unknown key is an error. RecBole's own settings (`epochs`, `learning_rate`, …) stand in
RecBole's documentation.

A setting of one model goes to the run's own model. `--LightGCN.reg_weight=0.1` gives it to another
model of the run. `~` means: not set.
"""


def table(groups: tuple[Group, ...]) -> str:
    """The groups of one file as Markdown tables."""
    parts = []
    for group in groups:
        rows = [
            f"| `{one.key}` | `{_cell(one.default)}` | {_cell(one.meaning)} |"
            for one in group.settings
        ]
        parts += [group.title] if group.title else []
        parts.append("\n".join(["| setting | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    own = [name for name in models() if name != "EXP3RT"]
    titles = {
        "overall": "Any run",
        "llm": "Language models",
        "model/EXP3RT": "EXP3RT",
        **{f"model/{name}": name for name in own},
        "train": "Training a student: `exp3rt train`",
        "tune": "Searching hyper-parameters: `exp3rt tune`",
        "judge": "Comparing explanations: `exp3rt judge`",
        "ground": "Grounding explanations: `exp3rt ground`",
        "study": "A study with people: `exp3rt study`",
    }
    sections = [f"## {title}\n\n{table(groups_of(name))}" for name, title in titles.items()]
    return "\n\n".join([HEAD.rstrip(), *sections]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
