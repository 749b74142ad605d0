"""What LiteLLM ships, as it is read: versions that match, views, and files that PostgreSQL takes alone."""

import re
from pathlib import Path

import pytest

from litellm_sqlalchemy import litellm_views
from litellm_sqlalchemy.litellm_migrations import Migration, released

ROLES = Path(__file__).resolve().parents[2] / "roles"
GATEWAY = ROLES / "litellm/files/requirements.txt"
LOCKS = [ROLES / "schema/files/requirements.txt", ROLES / "schema/files/litellm.txt"]


def pinned(lock: Path) -> dict[str, str]:
    """The versions in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_gateway_and_database_host_have_the_same_litellm() -> None:
    """Its migrations, its views and its client belong together: an upgrade changes all of them at once."""
    gateway = pinned(GATEWAY)
    schema = pinned(LOCKS[0]) | pinned(LOCKS[1])
    for package in ("litellm", "litellm-proxy-extras"):
        assert schema[package] == gateway[package]


def test_migrations_are_those_that_this_litellm_asks_for() -> None:
    """LiteLLM names the version in the extra that is not installed as such, since litellm-enterprise is in it."""
    metadata = next((Path(litellm_views.package("litellm")).parent).glob("litellm-*.dist-info")) / "METADATA"
    (wanted,) = re.findall(r"^Requires-Dist: litellm-proxy-extras==([\w.]+)", metadata.read_text(), re.MULTILINE)
    assert pinned(GATEWAY)["litellm-proxy-extras"] == wanted


def test_migrations_come_in_the_order_of_their_names() -> None:
    names = [migration.name for migration in released()]
    assert names == sorted(names)
    assert names[0] == "20250326162113_baseline"


@pytest.mark.parametrize(
    ("script", "alone"),
    [
        ('CREATE INDEX CONCURRENTLY "i" ON "t" ("c");', True),
        ('-- Why\n\nCREATE INDEX\n  CONCURRENTLY IF NOT EXISTS "i" ON "t" ("c");', True),
        ('-- CREATE INDEX CONCURRENTLY is refused on a partitioned table.\nCREATE INDEX "i" ON "t" ("c");', False),
        ('CREATE TABLE "t" (c integer);', False),
    ],
)
def test_migration_is_alone_where_its_sql_says_concurrently(script: str, alone: bool) -> None:
    assert Migration("name", script, "").alone is alone


def test_views_are_read_from_litellm() -> None:
    views = litellm_views.released()
    assert "LiteLLM_VerificationTokenView" in views
    assert len(views) == 8


def test_view_that_is_looked_for_but_not_understood_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that writes its SQL in another way is noticed here rather than by an empty report."""
    source = tmp_path / litellm_views.SOURCE
    source.parent.mkdir(parents=True)
    source.write_text("""a = 'SELECT 1 FROM "New" LIMIT 1'\nb = f'CREATE VIEW "{name}" AS SELECT 1'\n""")
    monkeypatch.setattr(litellm_views, "package", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"looks for \['New'\] and creates \[\]"):
        litellm_views.released()
    source.unlink()
    with pytest.raises(ValueError, match="does not exist"):
        litellm_views.released()
