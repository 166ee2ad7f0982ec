"""What raters see: a page that needs nothing, and files for three crowd platforms.

Texts of others are escaped in each form. On the platforms the sides are drawn once for each task,
and `left` says which; on our page they are drawn for each rater.
"""

from __future__ import annotations

import csv
import html
import io
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import yaml
from markupsafe import Markup

from recbole_exp3rt.explain.criteria import CRITERIA
from recbole_exp3rt.explain.pages import PACKAGE
from recbole_exp3rt.explain.study import Study, Task
from recbole_exp3rt.report.page import environment, template_file

CHOICES = ("A", "tie", "B")
_FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def study_forms(study: Study, *, title: str, item_word: str) -> dict[str, str]:
    """File name -> content of all that raters and platforms get; the key is not among them."""
    left = _left(study)
    return {
        "study.html": study_page(study, title=title, item_word=item_word),
        "amt.csv": _amt_csv(study, left),
        "amt.html": environment(PACKAGE)
        .get_template("amt.html")
        .render(item_word=item_word, criteria=_criteria(study)),
        "label-studio.json": _label_studio_tasks(study, left),
        "label-studio.xml": _label_studio_config(study),
        "potato.jsonl": _potato_items(study, left),
        "potato.yaml": _potato_config(study, title),
    }


def study_page(study: Study, *, title: str, item_word: str) -> str:
    """The whole page: blinded, without a request to anywhere."""
    data = {
        "study": study.id,
        "criteria": _criteria(study),
        "tasks": [vars(task) for task in study.tasks],
    }
    page = environment(PACKAGE).get_template("study.html")
    return page.render(
        title=title,
        item_word=item_word,
        data=data,
        style=Markup(template_file(PACKAGE, "study.css")),
        script=Markup(template_file(PACKAGE, "study.js")),
    )


def _criteria(study: Study) -> list[dict[str, str]]:
    return [{"name": name, "definition": CRITERIA[name]} for name in study.criteria]


def _left(study: Study) -> dict[str, str]:
    """The side that platforms show as A, of each task."""
    draw = random.Random(study.id)
    return {task.id: draw.choice("xy") for task in study.tasks}


def _shown(task: Task, left: Mapping[str, str]) -> tuple[str, str]:
    """The texts shown as A and as B."""
    first = left[task.id]
    return task.texts[first], task.texts["y" if first == "x" else "x"]


def _lines(task: Task) -> dict[str, list[str]]:
    """What is known of a task, in lines."""
    return {
        "description": [f"{label}: {value}" for label, value in task.description],
        "user": _sides(task.user),
        "item": _sides(task.item),
    }


def _sides(profile: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{side}: {'; '.join(texts)}" for side, texts in profile.items() if texts]


def _amt_csv(study: Study, left: Mapping[str, str]) -> str:
    """One HIT a line; every value is HTML already, as Mechanical Turk puts it into the page."""
    out = io.StringIO()
    names = ["study", "task", "left", "title", "description", "user", "item", "a", "b"]
    table = csv.writer(out, lineterminator="\n")
    table.writerow(names)
    for task in study.tasks:
        known = {key: "<br>".join(map(_markup, lines)) for key, lines in _lines(task).items()}
        a, b = _shown(task, left)
        row = {
            "study": study.id,
            "task": task.id,
            "left": left[task.id],
            "title": _markup(task.title),
            **{key: value or "—" for key, value in known.items()},
            "a": _markup(a),
            "b": _markup(b),
        }
        table.writerow([row[name] for name in names])
    return out.getvalue()


def _markup(text: str) -> str:
    """A text as HTML in one line; what a spreadsheet would run as a formula begins with an entity.

    A `$` is an entity too: Mechanical Turk fills ${…}.
    """
    escaped = html.escape(text).replace("$", "&#36;").replace("\r\n", "\n").replace("\n", "<br>")
    first = escaped[:1]
    return f"&#{ord(first)};{escaped[1:]}" if first and _FORMULA.match(first) else escaped


def _label_studio_tasks(study: Study, left: Mapping[str, str]) -> str:
    tasks = []
    for task in study.tasks:
        known = {key: "\n".join(lines) for key, lines in _lines(task).items()}
        a, b = _shown(task, left)
        own = {"study": study.id, "task": task.id, "left": left[task.id], "title": task.title}
        tasks.append({"data": {**own, **known, "a": a, "b": b}})
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _label_studio_config(study: Study) -> str:
    """A labeling configuration: texts as Text, which shows no markup; Choices for each question."""
    lines = ["<View>", '  <Header value="$title"/>']
    for name, title in (("description", "The item"), ("user", "The user"), ("item", "Others say")):
        lines += [f"  <Header size={quoteattr('5')} value={quoteattr(title)}/>"]
        lines += [f'  <Text name="{name}" value="${name}"/>']
    lines.append('  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">')
    for name in ("a", "b"):
        title = f"Explanation {name.upper()}"
        text = f'<Text name="{name}" value="${name}"/>'
        lines.append(f'    <View><Header size="4" value="{title}"/>{text}</View>')
    lines.append("  </View>")
    for name in study.criteria:
        said = quoteattr(f"{name.capitalize()}. {CRITERIA[name]}")
        choices = "".join(f'<Choice value="{choice}"/>' for choice in CHOICES)
        lines.append(f"  <Header size={quoteattr('5')} value={said}/>")
        lines.append(
            f'  <Choices name="{name}" toName="a" choice="single" required="true" '
            f'showInline="true">{choices}</Choices>'
        )
    return "\n".join([*lines, "</View>"]) + "\n"


def _potato_items(study: Study, left: Mapping[str, str]) -> str:
    """One item a line; its text is HTML, as Potato shows it."""
    lines = []
    for task in study.tasks:
        a, b = _shown(task, left)
        known = [line for lines in _lines(task).values() for line in lines]
        parts = [f"<h3>{_markup(task.title)}</h3>", *(f"<p>{_markup(line)}</p>" for line in known)]
        for name, text in (("A", a), ("B", b)):
            parts.append(f"<h4>Explanation {name}</h4><blockquote>{_markup(text)}</blockquote>")
        body = {"id": task.id, "text": "".join(parts), "study": study.id, "left": left[task.id]}
        lines.append(json.dumps(body, ensure_ascii=False))
    return "\n".join(lines) + "\n" if lines else ""


def _potato_config(study: Study, title: str) -> str:
    body: dict[str, Any] = {
        "annotation_task_name": title,
        "task_dir": ".",
        "output_annotation_dir": "potato-answers",
        "output_annotation_format": "jsonl",
        "data_files": ["potato.jsonl"],
        "item_properties": {"id_key": "id", "text_key": "text"},
        "annotation_schemes": [
            {
                "annotation_type": "radio",
                "name": name,
                "description": f"{name.capitalize()}. {CRITERIA[name]}",
                "labels": list(CHOICES),
                "label_requirement": {"required": True},
            }
            for name in study.criteria
        ],
    }
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=100)
