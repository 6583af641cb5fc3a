"""What a person is told when the database is not as it has to be: one line, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.errors import LibraryBusy, LibraryError, ServerGone
from rwkvsearch.indexer.address import Address, place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.migrations import SCHEMA_VERSION
from rwkvsearch.indexer.tables import ImageRow, SettingRow

pytestmark = pytest.mark.server


def name_of(address: str) -> str:
    return address.rpartition("/")[2]


def as_role(postgres: Any, address: str, role: str, *grants: str) -> Address:
    postgres.say(f"CREATE ROLE {role} LOGIN PASSWORD 'postgres'")
    for grant in grants:
        postgres.say(f"GRANT {grant} TO {role}", name_of(address))
    return Address(address.replace("postgres@", f"{role}@"))


def told(place: Address, *, create: bool = False) -> str:
    with pytest.raises(LibraryError) as raised:
        (Library.create if create else Library.open)(place)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_newer_version(team_address: str) -> None:
    with Library.create(place_of(team_address)) as library, library.write() as session:
        session.merge(SettingRow(name="schema", value=str(SCHEMA_VERSION + 1)))
    said = told(Address(team_address))
    assert "was made by a newer rwkvsearch" in said and "pip install -U" in said


def test_tables_of_another_program(team_address: str, postgres: Any) -> None:
    postgres.say("CREATE TABLE files (name text)", name_of(team_address))
    assert "holds tables of another program" in told(Address(team_address), create=True)
    assert "holds tables of another program" in told(Address(team_address))


def test_no_right_to_add_the_extension(team_address: str, postgres: Any) -> None:
    postgres.say(f"REVOKE CREATE ON DATABASE {name_of(team_address)} FROM public")
    place = as_role(postgres, team_address, "guest1", "CREATE ON SCHEMA public")
    said = told(place, create=True)
    assert "needs the extension pgvector" in said and "CREATE EXTENSION vector" in said
    assert postgres.say("SELECT to_regclass('files')", name_of(team_address)) == [(None,)]


def test_who_may_only_read_reads(team_address: str, postgres: Any, tmp_path: Path) -> None:
    Library.create(place_of(team_address)).close()
    all_tables = "SELECT ON ALL TABLES IN SCHEMA public"
    place = as_role(postgres, team_address, "guest2", all_tables, "USAGE ON SCHEMA public")
    with Library.open(place) as library:
        assert library.stats().images == 0 and not library.is_writable
        with pytest.raises(LibraryError, match="this role may not do that .*ask the owner"):
            with library.write() as session:
                session.add(SettingRow(name="a", value="b"))
                session.flush()


def test_a_server_that_stops_in_the_middle_is_used_again(team_address: str, postgres: Any) -> None:
    with Library.create(place_of(team_address)) as library:
        with pytest.raises(ServerGone, match="has stopped .*try again when it is up"):
            with library.write() as session:
                session.merge(SettingRow(name="lost", value="1"))
                session.flush()
                postgres.kill()
                session.merge(SettingRow(name="lost too", value="1"))
                session.flush()
        postgres.start()
        with library.read() as session:
            assert session.get(SettingRow, "schema") and not session.get(SettingRow, "lost")


def test_a_transaction_is_run_again_when_another_one_was_first(team_address: str) -> None:
    new = {"content_hash": "a", "width": 1, "height": 1, "format": "PNG"}
    with Library.create(place_of(team_address)) as library:
        runs: list[int] = []

        def enter(session: Any) -> str:
            runs.append(1)
            if len(runs) == 1:
                with library.write() as other:
                    other.add(ImageRow(**new))
                session.add(ImageRow(**new))
                session.flush()
            return "done"

        assert library.writing(enter) == "done" and len(runs) == 2
        with pytest.raises(LibraryBusy), library.write() as session:
            session.add(ImageRow(**new))
            session.flush()
