"""Prompts are documents: checked when they are loaded, replaceable, never parsing their values."""

import pytest

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.prompts import FIELDS, load_prompts


def test_our_prompts_load_and_keep_the_papers_tags_and_answer_form():
    prompts = load_prompts()
    rating = "\n".join(text for _, text in prompts.rating.sections)
    for tag in ("<User Profile>", "<Item Description>", "<Item Profile>"):
        assert tag in rating
    assert "Reasoning:" in rating and "Predicted User Rating:" in rating
    for prompt in (prompts.preference, prompts.user_profile, prompts.item_profile):
        text = prompt.sections[-1][1]
        assert "[Like]" in text and "[Dislike]" in text and '"None."' in text


def test_values_with_braces_are_inserted_as_they_are():
    (_, user) = load_prompts().preference.render(item_word="movie", review="{item_word} {0}")
    assert "{item_word} {0}" in user.content
    assert "about a movie" in user.content


def test_a_prompt_dir_replaces_single_prompts(tmp_path):
    (tmp_path / "preference.txt").write_text("=== user ===\nRead this: {review}\n")
    prompts = load_prompts(tmp_path)
    assert prompts.preference.render(review="good")[0].content == "Read this: good"
    assert prompts.rating == load_prompts().rating


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("preference", "=== user ===\n{reviev}", r"unknown field \{reviev\}"),
        ("preference", "=== user ===\nhello", r"field \{review\} is missing"),
        ("preference", "{review}", "no '=== user ===' section"),
        ("preference", "=== user ===\n{review} }", "write a literal brace twice"),
        ("preference", "=== user ===\n{review:>9}", r"field \{review\} has a format"),
        ("preference", "=== user ===\n{review!r}", r"field \{review\} has a format"),
        ("prefrence", "=== user ===\n{review}", "no prompt has this name"),
    ],
)
def test_a_wrong_prompt_fails_at_load_with_the_name_of_the_file(tmp_path, name, text, complaint):
    (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(UsageError, match=complaint) as error:
        load_prompts(tmp_path)
    assert f"{name}.txt" in str(error.value)


def test_a_prompt_that_is_not_utf8(tmp_path):
    (tmp_path / "preference.txt").write_bytes(b"=== user ===\n\xff{review}")
    with pytest.raises(UsageError, match=r"preference\.txt cannot be read as UTF-8"):
        load_prompts(tmp_path)


def test_prompt_dir_must_be_a_folder(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        load_prompts(tmp_path / "nowhere")


def test_every_prompt_has_its_fields_declared():
    assert set(FIELDS) == {
        "preference",
        "user_profile",
        "item_profile",
        "rating",
        "rating_direct",
        "rationale",
    }
