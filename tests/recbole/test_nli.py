"""A natural-language-inference model as grounder, tiny and random: no network."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from recbole_exp3rt.errors import UsageError
from recbole_exp3rt.explain.statements import Statement
from recbole_exp3rt.explain.text_metrics import bert_score
from recbole_exp3rt.explain.verdicts import Claim, Line
from recbole_exp3rt.explain.verdicts_nli import NLIGrounder, decided, order_of

LABELS = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}


@pytest.fixture(scope="module")
def tiny_nli(tmp_path_factory):
    """A folder of a BERT of one layer with the three labels."""
    folder = tmp_path_factory.mktemp("nli") / "tiny"
    plain = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordLevelTrainer(special_tokens=special)
    plain.train_from_iterator(["The user likes rain and dislikes the sea ."], trainer)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    made = PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=64, **names)
    made.save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=plain.get_vocab_size(),
        intermediate_size=16,
        num_labels=3,
        id2label=LABELS,
        label2id={label: k for k, label in LABELS.items()},
        **sizes,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_probabilities_come_in_the_order_of_the_verdicts(tiny_nli):
    grounder = NLIGrounder(tiny_nli)
    pair = ("The user likes rain .", "The user likes the sea .")
    (entailed, neutral, contradicted), *_ = grounder._shares([pair, ("rain", "sea")])
    assert entailed + neutral + contradicted == pytest.approx(1)
    batch = grounder._tokenizer(*pair, return_tensors="pt")
    with torch.no_grad():
        own = grounder._model(**batch).logits.softmax(-1)[0].tolist()
    assert own == pytest.approx([contradicted, neutral, entailed], abs=1e-5), "padding changes none"


def test_it_takes_texts_apart_by_sentence_and_gives_verdicts(tiny_nli):
    grounder = NLIGrounder(tiny_nli)
    assert grounder.cut(["One. Two!"]) == [(Statement("One."), Statement("Two!"))]
    lines = (Line("review", "The user likes rain ."), Line("review", "The sea ."))
    found = grounder.check([Claim(Statement("rain ."), lines), Claim(Statement("sea ."), ())])
    assert found[0].verdict in ("entailed", "neutral", "contradicted")
    assert found[1].verdict == "neutral" and grounder.name == f"nli:{tiny_nli}"


def test_the_most_certain_line_decides():
    weak, strong = ("a", (0.5, 0.2, 0.3)), ("b", (0.1, 0.1, 0.8))
    assert decided([weak]).verdict == "entailed"
    found = decided([weak, strong, ("c", (0.1, 0.85, 0.05))])
    assert (found.verdict, found.evidence) == ("contradicted", "b")
    assert decided([("d", (0.3, 0.4, 0.3))]).verdict == "neutral"


def test_labels_that_say_nothing_are_refused(tmp_path):
    assert order_of(LABELS, "x") == [2, 1, 0]
    with pytest.raises(UsageError, match="nli:x has the labels LABEL_0, LABEL_1"):
        order_of({0: "LABEL_0", 1: "LABEL_1"}, "x")
    with pytest.raises(UsageError, match="cannot be loaded"):
        NLIGrounder(str(tmp_path / "nothing"))


def test_bertscore_takes_a_model_by_its_folder_and_names_it(tiny_nli, tmp_path):
    pytest.importorskip("bert_score")
    texts, wanted = ["The user likes rain .", "the sea ."], ["The user likes rain .", "rain and"]
    found = bert_score(texts, wanted, model=tiny_nli)
    assert found.keys() == {"BERTScore (tiny)"}
    assert bert_score(texts[:1], wanted[:1], model=tiny_nli)["BERTScore (tiny)"] == pytest.approx(1)
    assert found["BERTScore (tiny)"] < 1
    with pytest.raises(UsageError, match="cannot be loaded"):
        bert_score(texts, wanted, model=str(tmp_path))
