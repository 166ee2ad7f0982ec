"""Command line: `python -m dataset_converters SOURCE … --output_path DIR`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dataset_converters.columns import ROLES, common
from dataset_converters.options import ROWS, add_rows, subset_of, told_of
from dataset_converters.values import DATE_ORDERS
from recbole_exp3rt.cli.common import exit_code
from recbole_exp3rt.display.terminal import plain
from recbole_exp3rt.errors import UsageError, nearest
from recbole_exp3rt.text import without_surrogates

if TYPE_CHECKING:
    from dataset_converters.base import How

SOURCES = ("imdb", "amazon-book", "exp3rt", "sample", "table")

# pandas and the sources are imported where they are used: the help needs none of them


def main(argv: Sequence[str] | None = None, prog: str = "exp3rt-convert") -> int:
    """Convert; print the statistics. Returns 0, or 2 with one line on stderr for a bad input.

    `prog` is the name of the program in its usage.
    """
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        print(plain(without_surrogates(_run(_options(words, prog)))))

    return exit_code(work)


def _options(words: Sequence[str], prog: str) -> argparse.Namespace:
    """What the command line says. Raises: UsageError in one line; SystemExit after a help."""
    if words and not words[0].startswith("-") and words[0] not in SOURCES:
        raise UsageError(f"no source {words[0]!r}{nearest(words[0], SOURCES)}; see {prog} --help")
    options, unknown = _parser(prog).parse_known_args(words)
    if unknown:
        name = unknown[0].partition("=")[0]
        known = [f"--{key}" for key in vars(options)]
        raise UsageError(
            f"{options.source} has no option {name}{nearest(name, known)}; "
            f"see {prog} {options.source} --help"
        )
    return options


def _run(options: argparse.Namespace) -> str:
    from dataset_converters.amazon_book import AmazonSource
    from dataset_converters.base import convert
    from dataset_converters.exp3rt import AlignedSource
    from dataset_converters.imdb import ImdbSource
    from dataset_converters.imdb_json import ImdbJsonSource, is_json
    from dataset_converters.imdb_tables import ImdbTables
    from dataset_converters.reading import Source
    from dataset_converters.sample import make_sample
    from dataset_converters.table import convert_table, default_output
    from dataset_converters.write import data_set_files, load_properties

    output, k_core = options.output_path, options.k_core
    how = _how(options)
    if options.source == "table":
        output = output or default_output(options.table)
    if options.source == "sample":
        output = output or Path("dataset/sample")
    there = data_set_files(output)
    if there and not options.overwrite and not options.dry_run:
        raise UsageError(
            f"{output} already holds {there[0]}; add --overwrite to replace it, or name another "
            "folder with --output_path"
        )
    if options.source == "table":
        return convert_table(
            options.table, options.items, _table_options(options), output, k_core, how=how
        )
    if options.source == "sample":
        return make_sample(output, k_core, how=how)
    told = options.item_word, options.rating_scale
    if options.source == "exp3rt" and options.part != "aligned":
        return _in_vain(_released, options) if options.dry_run else _released(options, output)
    if options.source == "exp3rt":
        properties = load_properties("exp3rt-aligned", *told)
        aligned = AlignedSource(options.input_path, properties["description_fields"])
        fixed = None if how.halves else aligned.split
        return convert(aligned, output, properties, k_core, fixed, how=how)
    properties = load_properties(options.source, *told)
    source: Source
    if options.source == "imdb":
        tables = ImdbTables(options.imdb_tsv) if options.imdb_tsv else None
        kind = ImdbJsonSource if is_json(options.input_path) else ImdbSource
        source = kind(options.input_path, options.metadata, tables)
    else:
        source = AmazonSource(options.reviews, options.meta)
    report = convert(source, output, properties, k_core, how=how)
    return "\n".join([report, *getattr(source, "said", ())])


def _released(options: argparse.Namespace, output: Path) -> str:
    """A part of the authors' release that holds no reviews, or all of it."""
    from dataset_converters.exp3rt import convert_topk
    from dataset_converters.profiles import convert_profiles
    from dataset_converters.release import Told, convert_release, convert_released
    from dataset_converters.write import load_properties

    source, word, about = options.input_path, options.item_word, told_of(options)
    if options.rating_scale and options.part in ("profiles", "released"):
        raise UsageError(f"rating_scale: {options.part} keep theirs; leave it out")
    if options.part == "profiles":
        return convert_profiles(source, output, word or "movie")
    if options.part == "released":
        return convert_released(source, output, about)
    if options.part == "topk":
        properties = load_properties("exp3rt-topk", word, options.rating_scale)
        return convert_topk(source, output, properties, options.k_core, about)
    if options.k_core:
        raise UsageError("k_core belongs to one part; leave it out, or name one with --part")
    told = Told(word, options.rating_scale, about)
    return convert_release(source, output, told, options.overwrite)


def _in_vain(work: Callable[[argparse.Namespace, Path], str], options: argparse.Namespace) -> str:
    """Do the work in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        report = work(options, Path(folder) / options.output_path.resolve().name)
    return f"{report}\n  dry run: nothing was written"


def _how(options: argparse.Namespace) -> How:
    """What the options say that every source has."""
    from dataset_converters.base import How
    from dataset_converters.engine import Limits
    from dataset_converters.halves import Halves

    levels = {"kept_from": options.kept_from, "halved_from": options.halved_from}
    given = [key for key, value in levels.items() if value is not None]
    if given and not options.split and not (options.subset and given == ["kept_from"]):
        raise UsageError(f"{given[0]} belongs to --split topk-halves; add it")
    if getattr(options, "part", "") in ("topk", "profiles", "released", "all"):
        for name in ("split", "rejects", *ROWS):
            if (value := getattr(options, name)) is not None:
                raise UsageError(
                    f"{name}={value}: part {options.part} has no ratings; leave it out"
                )
    return How(
        halves=Halves(**levels) if options.split else None,
        unseen_users=options.unseen_users,
        rejects=options.rejects,
        sidecar=options.sidecar,
        limits=Limits(options.memory_limit, options.threads),
        subset=subset_of(options),
        dry_run=options.dry_run,
        told=(options.source, told_of(options)),
    )


def _table_options(options: argparse.Namespace) -> Any:
    """The `Options` of a table."""
    from dataset_converters.guesses import Options

    names = [one.name for one in fields(Options) if one.name != "columns"]
    columns = {role: getattr(options, role) for role in ROLES}
    return Options(columns=columns, **{name: getattr(options, name) for name in names})


def _add_table(sources: Any) -> argparse.ArgumentParser:
    """The options of `table`."""
    table: argparse.ArgumentParser = sources.add_parser(
        "table", help="your own reviews: CSV, TSV, JSON or parquet, plain or .gz"
    )
    table.add_argument("table", type=Path, metavar="FILE", help="the reviews, one row each")
    wanted = {
        "user": "who wrote it",
        "item": "what it is about",
        "rating": "a number, '4/5', '4 stars', or a thumb",
        "text": "the review",
        "time": "a date, or seconds or milliseconds since 1970",
        "title": "the review's title",
        "helpful": "how many found it helpful",
    }
    for role, meaning in wanted.items():
        help = f"column: {meaning} (default: guessed by common names; none: there is none)"
        table.add_argument(f"--{role}", metavar="COLUMN", help=help)
    table.add_argument(
        "--preset", metavar="NAME", help=f"columns of {', '.join(common()['presets'])}"
    )
    table.add_argument("--items", type=Path, metavar="FILE", help="descriptions of the items")
    table.add_argument("--items_id", metavar="COLUMN", help="the item's id in that file")
    table.add_argument(
        "--description",
        nargs="+",
        default=(),
        metavar="COLUMN=Label",
        help="columns that describe an item, its title first (default: guessed)",
    )
    table.add_argument(
        "--unrated", nargs="+", default=(), metavar="VALUE", help="ratings that mean: not rated"
    )
    table.add_argument(
        "--date_order",
        choices=DATE_ORDERS,
        help="what comes first in 03/04/2021 (default: guessed)",
    )
    return table


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=prog, description="Raw reviews in, RecBole atomic files out.")
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")

    imdb = sources.add_parser("imdb", help="IMDb reviews: one CSV file a movie, or JSON files")
    imdb.add_argument(
        "--input_path",
        type=Path,
        required=True,
        help="folder of CSV or JSON files, or one JSON file",
    )
    imdb.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE",
        help="JSON about the movies (default beside CSV files: movie_metadata.jsonl)",
    )
    imdb.add_argument(
        "--imdb_tsv",
        type=Path,
        metavar="DIR",
        help="IMDb's non-commercial tables (title.basics.tsv.gz …), by tconst or title and year",
    )

    amazon = sources.add_parser("amazon-book", help="Amazon reviews of 2014, 2018 or 2023")
    amazon.add_argument(
        "--reviews",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="JSON lines or arrays, plain, gzip or zstd; a pattern such as 'books/*.gz'",
    )
    amazon.add_argument(
        "--meta", type=Path, nargs="+", metavar="FILE", help="metadata, in the same forms"
    )

    exp3rt = sources.add_parser("exp3rt", help="the data that the paper's authors released")
    exp3rt.add_argument("--input_path", type=Path, required=True, help="folder of the release")
    exp3rt.add_argument(
        "--part",
        choices=["all", "topk", "aligned", "profiles", "released"],
        default="all",
        help="default: all that is there, each part in a folder of its own",
    )

    sample = sources.add_parser("sample", help="the synthetic sample")
    table = _add_table(sources)
    usual = {table: "<name of FILE>", sample: "sample"}
    for source in (table, imdb, amazon, exp3rt, sample):
        source.add_argument(
            "--output_path",
            type=Path,
            required=source not in usual,
            help="the data set's folder"
            + (f" (default: dataset/{usual[source]})" if source in usual else ""),
        )
        source.add_argument(
            "--overwrite", action="store_true", help="replace a data set that is there"
        )
        default = 0 if source is exp3rt else 5
        source.add_argument(
            "--k_core", type=_count, default=default, help=f"0 for none (default {default})"
        )
        source.add_argument(
            "--unseen_users",
            type=_count,
            default=1000,
            metavar="N",
            help="users below the k-core kept beside the data set, to be rated unseen "
            "(default 1000; 0 for none)",
        )
        rows, large = add_rows(source), source.add_argument_group("large files")
        source.add_argument(
            "--rejects", type=Path, metavar="FILE", help="CSV of the dropped rows: file,line,reason"
        )
        large.add_argument(
            "--sidecar",
            choices=["auto", "jsonl", "parquet"],
            default="auto",
            help="form of the review file (auto: parquet above 200,000 rows)",
        )
        large.add_argument(
            "--memory_limit",
            default="1GB",
            metavar="SIZE",
            help="what the engine holds in memory, the rest on the disk (default 1GB)",
        )
        large.add_argument(
            "--threads", type=_count, default=0, metavar="N", help="default 0: one a core"
        )
        rows.add_argument(
            "--split",
            choices=["topk-halves"],
            help="high ratings only, each user's highest halved between train and test",
        )
        for option, what in (
            ("kept", "that stay, with --subset or"),
            ("halved", "that are halved, with"),
        ):
            rows.add_argument(
                f"--{option}_from",
                type=_number,
                metavar="RATING",
                help=f"ratings {what} --split (default: {6 if option == 'kept' else 9} of 1–10)",
            )
        if source is not sample:
            source.add_argument("--item_word", help="what the prompts call an item")
            source.add_argument(
                "--rating_scale",
                type=_number,
                nargs="+",
                metavar="NUMBER",
                help="LOWEST HIGHEST [STEP], such as 1 10 or 0.5 5 0.5, in place of the source's",
            )
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        """Raises: UsageError with argparse's message and the help that explains it."""
        said = message.removeprefix("argument ")
        raise UsageError(f"{said[:1].lower()}{said[1:]}; see {self.prog} --help")


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no count; take 0 for no k-core, or 5")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number; give each by itself, such as --rating_scale 1 5"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
