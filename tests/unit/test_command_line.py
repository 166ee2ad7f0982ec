"""`exp3rt`: what is wrong is named before torch is imported, help and completion know all settings.

Each call is a process of its own, with its CPU time, as a user has it.
"""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_exp3rt.cli.main import COMMANDS, main
from recbole_exp3rt.config.described import groups_of, models
from recbole_exp3rt.paths import properties_dir

ROOT = Path(__file__).parents[2]
SECOND = 2.0  # of CPU, in which a mistake is named; to import torch takes longer
BLINK = 0.6  # twice what a help takes on a quiet machine: a busy one counts more
# Prints whether heavy libraries were imported, after anything that the process does.
WATCH = """
import atexit, sys
heavy = {"torch", "transformers", "pandas", "recbole"}
atexit.register(lambda: print("imported:", sorted(heavy & set(sys.modules)), file=sys.stderr))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, sample_files):
    """A folder with the sample in it."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(sample_files, folder / "dataset" / "sample")
    return folder


def python(code, folder, **environment):
    """Its exit code, what it printed, its complaint, the CPU seconds, the heavy imports."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
    command = [sys.executable, "-c", WATCH + code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    *complaint, imported = done.stderr.splitlines()
    return done.returncode, done.stdout, "\n".join(complaint), seconds, imported


def exp3rt(*arguments, folder, **environment):
    code = f"from recbole_exp3rt.cli.main import main; sys.exit(main({list(arguments)}))"
    return python(code, folder, **environment)


TYPOS = [
    (["run", "--model=EXP3R"], "did you mean EXP3RT?"),
    (["--model=EXP3R"], "did you mean EXP3RT?"),
    (["run", "--model", "lightgcn"], "did you mean LightGCN?"),
    (["convert", "tabel", "a.csv"], "no source 'tabel' (did you mean table?)"),
    (["run", "--dataset=sampel"], "does not exist (did you mean sample?)"),
    (["run", "--epoch=3"], "did you mean epochs?"),
    (["run", "--MFF.epochs=3"], "did you mean MF?"),
    (["run", "--generator=LightGNC"], "did you mean LightGCN?"),
    (["run", "--generator=none.pth"], "none.pth does not exist"),
    (["run", "--generator=FM"], "FM does not rank"),
    (["run", "--generator=KGAT"], "needs a knowledge graph"),
    (["run", "--baselines=[MFF]"], "did you mean MF?"),
    (["run", "--metrics=[Recal]"], "did you mean recall?"),
    (["run", "--readout=exat"], "did you mean exact?"),
    (["run", "--eval_pairs=-1"], "from 1 on"),
    (["run", "--student=openai:m"], "needs a key"),
    (["run", "--student=orcale"], "did you mean oracle?"),
    (["run", "--rating_model=./nowhere"], "is no folder"),
    (["run", "--config_files=nowhere.yaml"], "check config_files"),
    (["annotate", "--teacher=openai:m"], "openai:m needs a key"),
    (["train", "--data=x", "--output=y", "--preset=imbd"], "did you mean imdb?"),
    (["show", "--user=1", "--item=2", "--from=none.json"], "no file none.json"),
    (["show", "--user=viewer00O", "--item=syn0090"], "has no reviews in data set sample (did you"),
    (["show", "--user=viewer000", "--item=syn009"], "item syn009 has neither reviews nor a desc"),
    (["run", "--result_file=dataset/sample/sample.inter"], "is there already; name another, or"),
    (["rnu"], "did you mean run?"),
]


@pytest.mark.parametrize(("arguments", "remedy"), TYPOS)
def test_a_typo_is_named_before_torch_is_imported(arguments, remedy, place):
    code, out, said, seconds, imported = exp3rt(*arguments, folder=place)
    assert (code, out, imported) == (2, "", "imported: []")
    assert said.startswith("error: ") and remedy in said and len(said.splitlines()) == 1
    assert seconds < SECOND


MODULES = [
    ("recbole_exp3rt", ["run", "--epoch=3"], "did you mean epochs?"),
    ("recbole_exp3rt", ["--epoch=3"], "did you mean epochs?"),
    ("recbole_exp3rt.annotate", ["--dataset=sampel"], "did you mean sample?"),
    ("recbole_exp3rt.train", ["--data=x"], "--output=FOLDER"),
    ("recbole_exp3rt.train", ["merge", "x"], "Missing argument 'OUT'"),
]


@pytest.mark.parametrize(("module", "arguments", "remedy"), MODULES)
def test_so_it_is_with_python_m(module, arguments, remedy, place):
    code = f"import runpy; sys.argv = {['', *arguments]}; "
    code += f"runpy.run_module({module!r}, run_name='__main__')"
    status, out, said, seconds, imported = python(code, place)
    assert (status, out, imported) == (2, "", "imported: []") and seconds < SECOND
    assert said.startswith("error: ") and remedy in said


def test_the_sample_is_proposed_before_it_is_made(tmp_path):
    code, _, said, _, _ = exp3rt("run", "--dataset=smaple", folder=tmp_path)
    assert code == 2 and "(did you mean sample?)" in said and "`exp3rt convert SOURCE" in said


def test_the_script_of_recboles_people_stays(place):
    script = "import runpy; sys.argv = ['', '--model=MF', '--dataset=nope']; "
    script += f"runpy.run_path({str(ROOT / 'run_recbole.py')!r}, run_name='__main__')"
    status, _, said, _, imported = python(script, place)
    assert status == 2 and "data set nope does not exist" in said and imported == "imported: []"


IN_PYTHON = [
    ('from recbole_exp3rt import run; run("EXP3R", "sample")', "did you mean EXP3RT?"),
    ('from recbole_exp3rt import Config; Config("MF", "sampel")', "did you mean sample?"),
    (
        'from recbole_exp3rt import Config; Config("MF", "sample", config_dict={"epoch": 3})',
        "did you mean epochs?",
    ),
    (
        "from recbole_exp3rt import Recommender as R; R.from_reviews([], rating_scale=(1, 5), "
        'studnet="oracle")',
        "did you mean student?",
    ),
]


@pytest.mark.parametrize(("code", "remedy"), IN_PYTHON)
def test_so_it_is_in_python(code, remedy, place):
    _, _, said, seconds, imported = python(code, place)
    assert remedy in said.splitlines()[-1] and "Traceback" in said
    assert imported == "imported: []" and seconds < SECOND


def test_without_recbole_one_line_gives_the_command(place):
    hidden = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'recbole' else find(name, *rest)\n"
    )
    code = hidden + "from recbole_exp3rt.cli.main import main; sys.exit(main(['run']))"
    status, _, said, _, imported = python(code, place)
    assert status == 2 and imported == "imported: []"
    assert said == (
        "error: RecBole is not installed; install it with `pip install --no-deps recbole==1.2.1`"
    )
    code = hidden + "from recbole_exp3rt.cli.main import main; sys.exit(main(['run', '--help']))"
    assert python(code, place)[0] == 0


HELPS = [[], ["--help"], *([one, "--help"] for one in COMMANDS if one != "convert")]


@pytest.mark.parametrize("arguments", HELPS)
def test_a_help_is_there_in_a_blink_and_fits_80_columns(arguments, tmp_path):
    code, out, said, seconds, imported = exp3rt(*arguments, folder=tmp_path)
    assert (code, said, imported) == (0, "", "imported: []")
    assert out.lower().startswith("usage: exp3rt")
    whole = [line for line in out.splitlines() if len(line) > 80]
    assert all("--" in line or "exp3rt" in line for line in whole)  # a default is never broken
    assert seconds < BLINK


def help_of(capsys, *arguments):
    assert main([*arguments, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("overall", ["run"]),
        ("llm", ["run"]),
        ("train", ["train"]),
        ("tune", ["tune"]),
        *((f"model/{one}", ["run", f"--model={one}"]) for one in models()),
    ],
)
def test_every_setting_is_in_a_help_with_default_and_meaning(file, arguments, capsys):
    text = help_of(capsys, *arguments)
    settings = {one.key: one for group in groups_of(file) for one in group.settings}
    written = yaml.safe_load((properties_dir() / f"{file}.yaml").read_text(encoding="utf-8"))
    assert settings.keys() == written.keys()
    for key, one in settings.items():
        assert one.meaning, f"{key} has no comment in {file}.yaml"
        assert f"--{key}=" in text
        assert yaml.safe_load(one.default) == written[key]
    assert all(group.title for group in groups_of(file))


def test_a_help_begins_with_what_a_new_user_needs_and_knows_recboles_settings(capsys):
    text = help_of(capsys, "run")
    places = [
        text.index(f"{title}:")
        for title in ("What a run does", "Models of the steps", "Calibration")
    ]
    assert places == sorted(places)
    for setting in ("--seed=2020", "--data_path='dataset/'", "--metrics=[RMSE, MAE]"):
        assert setting in text
    assert "--baselines=[MF, WDL]" in text, "the default of the model, not of any run"
    assert "--mlp_hidden_size=[128,64] The hidden size" in help_of(capsys, "run", "-m", "NeuMF")
    assert "--preset=cpu= rank=8" in help_of(capsys, "train")


def test_the_version_and_the_exit_codes(capsys):
    from recbole_exp3rt import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"exp3rt, version {__version__}\n"
    text = help_of(capsys)
    for code in ("0 done", "2 something given", "3 the budget", "4 no rating", "130 stopped"):
        assert code in text


def test_convert_is_the_converters_under_another_name(capsys):
    assert main(["convert", "exp3rt", "--part=nope"]) == 2
    assert "; see exp3rt convert exp3rt --help\n" in capsys.readouterr().err
    from dataset_converters.__main__ import main as convert

    assert convert([]) == 2
    assert "; see exp3rt-convert --help\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--usr", "u"], "table has no option --usr (did you mean --user?)"),
        (["--rating_scale", "1-5"], "'1-5' is no number; give each by itself, such as"),
        (["--k_core=-1"], "--k_core: '-1' is no count; take 0"),
        (["--date_order=dmy"], "--date_order: invalid choice: 'dmy'"),
    ],
)
def test_a_wrong_option_of_a_converter_is_one_line_with_the_remedy(given, said, capsys):
    assert main(["convert", "table", "own.csv", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and line.endswith("see exp3rt convert table --help")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--rating_scale", "[-1,1]", "--seed", "-1"], {"rating_scale": "[-1,1]", "seed": "-1"}),
        (["--refit", "--topk=5"], {"refit": "True", "topk": "5"}),
        (["--refit", "False", "--topk", "5"], {"refit": "False", "topk": "5"}),
        (["--item_word=--x", "--prompt_dir=a=b"], {"item_word": "--x", "prompt_dir": "a=b"}),
    ],
)
def test_arguments_reach_a_run_as_they_are_written(given, kept, monkeypatch):
    from recbole_exp3rt.config.arguments import parse_arguments
    from recbole_exp3rt.config.described import flags, groups_of_run

    runs = []
    monkeypatch.setattr(
        "recbole_exp3rt.quick_start.quick_start.run",
        lambda *args, **more: runs.append((args, more)),
    )
    for command in (["run"], []):
        assert main([*command, "--model", "MF", *given, "-d", "own", "--config_files", "a b"]) == 0
    assert runs[0][0] == runs[1][0] == ("MF", "own")
    for _, more in runs:
        assert more["config_files"] == ["a", "b"]
        assert parse_arguments(more["arguments"], flags(groups_of_run())) == kept


def test_a_model_that_is_named_twice_is_refused(capsys):
    assert main(["run", "--model=MF", "--model=BPR"]) == 2
    assert "--model is given twice, as MF and as BPR" in capsys.readouterr().err


COMPLETED = [
    ("bash", ["ru"], "run"),
    ("bash", ["run", "--rer"], "--rerank_users --reranker --rerank_depth --rerank_reasoning"),
    ("bash", ["run", "--readout", "=", "e"], "exact"),
    ("bash", ["run", "--readout", "="], "auto exact top parsed"),
    ("bash", ["run", "--readout", ""], "auto exact top parsed"),
    ("bash", ["run", "--refit", "=", "T"], "True"),
    ("bash", ["run", "--model", "=", "LightGC"], "LightGCN"),
    ("bash", ["run", "-m", "Bi"], "Bias"),
    ("bash", ["run", "--dataset", "sa"], "sample"),
    ("bash", ["train", "--optimizer", "=", "p"], "paged_adamw_8bit"),
    ("bash", ["run", "--model", "=", "MF", "--reg_"], "--reg_bias --reg_weight"),
    ("zsh", ["run", "--readout=e"], "--readout=exact"),
    ("fish", ["run", "--readout=e"], "--readout=exact"),
    ("fish", ["run", "--rer"], "--rerank_users --reranker --rerank_depth --rerank_reasoning"),
    ("fish", ["run", "--readout", "e"], "exact"),
]


@pytest.mark.parametrize(("shell", "words", "wanted"), COMPLETED)
def test_a_shell_completes_settings_and_their_values(shell, words, wanted, monkeypatch, capsys):
    monkeypatch.setenv("COMP_WORDS", " ".join(["exp3rt", *words]))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    monkeypatch.setenv("_EXP3RT_COMPLETE", f"{shell}_complete")
    with pytest.raises(SystemExit):
        main([])
    out = capsys.readouterr().out
    if shell == "zsh":
        found = out.splitlines()[1::3]
    else:
        found = [line.partition(",")[2].partition("\t")[0] for line in out.splitlines()]
    assert " ".join(found) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert f"_EXP3RT_COMPLETE={shell}_complete" in capsys.readouterr().out
