"""`exp3rt store`: look into stores of answers, copy them, join them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from recbole_exp3rt.cli.common import exit_code, make_console
from recbole_exp3rt.display.terminal import escape, say
from recbole_exp3rt.errors import UsageError

if TYPE_CHECKING:
    from recbole_exp3rt.llm.stores.base import Store

HELP = """Copy and join stores of answers, and say what they hold.

A STORE is the file of a store, such as saved/answers.sqlite, or a database:
postgresql://user@host/database. Passwords come from PGPASSWORD or ~/.pgpass."""
USUAL = "saved/answers.sqlite"  # `store_path` of properties/llm.yaml
CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=CONTEXT, help=HELP, short_help="Copy, join and count stored answers.")
def command() -> None:
    """The group of what can be done with a store."""


@command.command("stats", context_settings=CONTEXT, short_help="What a store holds.")
@click.argument("store", default=USUAL)
@click.pass_context
def stats(ctx: click.Context, store: str) -> None:
    """Print the answers and tokens of each model in STORE, and what was paid.

    Without a name: the store that runs use, saved/answers.sqlite.
    """

    def work() -> None:
        from rich.table import Table

        from recbole_exp3rt.llm.cost.opening import open_ledger
        from recbole_exp3rt.llm.stores.places import beside, is_database

        opened = _opened(store)
        console = make_console()
        table = Table("model", box=None, pad_edge=False)
        for column in ("answers", "prompt tokens", "new tokens"):
            table.add_column(column, justify="right")
        for held in opened.held():
            counts = (held.answers, held.prompt_tokens, held.new_tokens)
            table.add_row(escape(held.identity), *(f"{count:,}" for count in counts))
        size = f"{opened.size() / 1e6:,.1f} MB"
        console.print(f"{escape(opened.name)}: {len(opened):,} answers, {size}")
        console.print(table)
        ledger = store if is_database(store) else beside(store, "ledger.jsonl")
        if (spent := open_ledger(ledger).total).calls:
            console.print(f"Paid: {escape(str(spent))}")

    ctx.exit(exit_code(work))


@command.command("export", context_settings=CONTEXT, short_help="Write a store to a file.")
@click.argument("store")
@click.argument("file")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@click.pass_context
def export_command(ctx: click.Context, store: str, file: str, overwrite: bool) -> None:
    """Write all answers of STORE, with their questions, to the parquet file FILE."""

    def work() -> None:
        from recbole_exp3rt.llm.stores.exchange import export
        from recbole_exp3rt.paths import check_new

        check_new("FILE", file, overwrite=overwrite)
        moved = export(_opened(store), file)
        say(f"{file}: {moved.new:,} answers")
        if moved.damaged:
            say(f"{moved.damaged:,} damaged answers were left out: {moved.first_damaged}")

    ctx.exit(exit_code(work))


@command.command("import", context_settings=CONTEXT, short_help="Add exported answers to a store.")
@click.argument("store")
@click.argument("files", nargs=-1, required=True)
@click.pass_context
def import_command(ctx: click.Context, store: str, files: tuple[str, ...]) -> None:
    """Add the answers of the parquet FILES to STORE. What is there already stays as it is."""
    from recbole_exp3rt.llm.stores.exchange import load

    ctx.exit(exit_code(lambda: _add(store, files, load)))


@command.command("merge", context_settings=CONTEXT, short_help="Add the answers of other stores.")
@click.argument("store")
@click.argument("others", nargs=-1, required=True)
@click.pass_context
def merge_command(ctx: click.Context, store: str, others: tuple[str, ...]) -> None:
    """Add the answers of the stores OTHERS to STORE. What is there already stays as it is."""
    from recbole_exp3rt.llm.stores.exchange import merge

    def add(other: str, store: Store) -> object:
        return merge(_opened(other), store)

    ctx.exit(exit_code(lambda: _add(store, others, add)))


def _add(place: str, others: tuple[str, ...], add: Callable[[str, Any], object]) -> None:
    from recbole_exp3rt.llm.stores.opening import open_store
    from recbole_exp3rt.llm.stores.places import shown

    store = open_store(place)
    for other in others:
        say(f"{shown(other)}: {add(other, store)}")
    say(f"{store.name}: {len(store):,} answers")


def _opened(place: str) -> Store:
    """The store at `place`, which has to be there. Raises: UsageError."""
    from pathlib import Path

    from recbole_exp3rt.llm.stores.opening import open_store
    from recbole_exp3rt.llm.stores.places import is_database

    if not is_database(place) and not Path(place).is_file():
        raise UsageError(f"there is no store {place}; name the file or the database of one")
    return open_store(place)
