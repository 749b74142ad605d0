"""Rehearse the switch from Prisma and back on the lab: there, back, and there again, broken off on the way.

In a database of its own: the lab's stays as it is, and at the end the gateway is back at it.
"""

import argparse
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from faults.inventory import read
from faults.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
STOCK, REHEARSAL, ROLE = "litellm_stock", "litellm_rehearsal", "llmproxy"
PASSWORD = "the-stock-gateways"  # of a role that the rehearsal makes and drops
KEY = "sk-stock-1"


class Rehearsal:
    """The lab, and what the rehearsal knows of it."""

    def __init__(self, inventory: Path, spend_logs: int) -> None:
        self.lab = read(inventory)
        self.inventory = inventory
        self.spend_logs = spend_logs
        self.database = Machine(self.lab.podman, self.lab.containers["postgresql"], self.lab.addresses["postgresql"])
        self.files = ROOT / ".cache" / "rehearsal"
        self.variables = self.files / "variables.yml"
        self.durations: dict[str, float] = {}

    # What it works with

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser; what it returns, unadorned."""
        script = 'exec runuser -u postgres -- psql --no-psqlrc -AtX -v ON_ERROR_STOP=1 -d "$1" -c "$2"'
        return self.database.run(script, database, statement, patience=120)

    def play(
        self,
        playbook: str,
        *options: str,
        kill_at: str | None = None,
        once: Callable[[], bool] = lambda: True,
        own: bool = True,
    ) -> str:
        """Run a playbook, or kill it in a task, once something holds; what it printed is kept in .cache/rehearsal."""
        command = ["ansible-playbook", playbook, f"--inventory={self.inventory}", *options]
        if own:
            command.append(f"--extra-vars=@{self.variables}")
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false"}
        # A task is named when it begins, not with its result.
        environment |= {"PYTHONUNBUFFERED": "1", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if kill_at and line.startswith("TASK [") and kill_at in line:
                deadline = time.monotonic() + 60
                while not once() and process.poll() is None:
                    assert time.monotonic() < deadline, f"{kill_at} has not come to its work"
                    time.sleep(0.2)
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        code = process.wait()
        printed = "".join(lines)
        (self.files / f"{Path(playbook).stem}.log").write_text(printed)
        if kill_at:
            assert code == -signal.SIGKILL, f"{playbook} ended before {kill_at!r}:\n{printed[-3000:]}"
        else:
            assert code == 0, f"{playbook} failed:\n{printed[-4000:]}"
        return printed

    def prisma(self, role: str, password: str, *options: str) -> dict[str, Any]:
        """What Prisma's own client finds as a role."""
        url = f"postgresql://{role}:{password}@{self.database.address}:{self.lab.database_port}/{REHEARSAL}"
        oracle = os.environ.get("PRISMA_ORACLE", str(ROOT / ".cache" / "conformance"))
        done = subprocess.run(
            ["node", str(Path(__file__).with_name("prisma.mjs")), url, *options],
            env={**os.environ, "PRISMA_ORACLE": oracle}, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    def call(self, key: str) -> str:
        """A chat call through the gateway; the id of the call."""
        body = json.dumps({"model": "lab-chat", "messages": [{"role": "user", "content": "rehearsal"}]}).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.lab.gateway_url}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers["x-litellm-call-id"])

    def counts(self) -> dict[str, int]:
        """How many rows each side has."""
        query = (
            """SELECT json_build_object('spend_logs', (SELECT count(*) FROM "LiteLLM_SpendLogs"),"""
            """ 'keys', (SELECT count(*) FROM "LiteLLM_VerificationToken"),"""
            " 'requests', (SELECT count(*) FROM requests), 'responses', (SELECT count(*) FROM responses),"
            " 'backfilled', (SELECT count(*) FROM responses WHERE content ? 'spend_log'))"
        )
        return dict(json.loads(self.sql(query, REHEARSAL)))

    def owners(self) -> str:
        """Who owns LiteLLM's tables."""
        return self.sql(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
            r" WHERE relname LIKE 'LiteLLM\_%' AND relkind = 'r'",
            REHEARSAL,
        )

    def restoring(self) -> bool:
        """Whether a dump is being restored."""
        query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{REHEARSAL}' AND application_name = 'psql'"
        return self.sql(query) != "0"

    def filling(self) -> bool:
        """Whether calls are being stored."""
        return self.sql("SELECT EXISTS (SELECT FROM requests)", REHEARSAL) == "t"

    # The acts

    def make_stock(self) -> None:
        """A stock LiteLLM's database, with a population, on the lab's server."""
        self.remove()
        network = ipaddress.ip_network(f"{self.database.address}/24", strict=False)
        comes_in = {"type": "hostssl", "address": f"{network[1]}/32", "method": "scram-sha-256"}
        entries = [
            comes_in | {"database": STOCK, "user": ROLE},
            comes_in | {"database": REHEARSAL, "user": ROLE},
            comes_in | {"database": REHEARSAL, "user": self.lab.database_user},
        ]
        variables = {
            "database_name": REHEARSAL,
            "postgresql_hba_entries": entries,
            "switch_source_url": f"postgresql:///{STOCK}?host=/var/run/postgresql&port={self.lab.database_port}",
            "switch_prisma_role": ROLE,
            "switch_smoke_key": KEY,
            "switch_smoke_model": "lab-chat",
            "switch_report_directory": str(self.files),
        }
        self.files.mkdir(parents=True, exist_ok=True)
        self.variables.write_text(yaml.safe_dump(variables))
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        self.sql(f"CREATE DATABASE {STOCK} OWNER {ROLE}")
        self.play("site.yml", "--limit=postgresql,localhost")
        url = f"postgresql://{ROLE}:{PASSWORD}@{self.database.address}:{self.lab.database_port}/{STOCK}"
        command = [sys.executable, "-m", "population", f"--spend-logs={self.spend_logs}", url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def refuse(self) -> None:
        """A failed migration and a session of the stock gateway are seen before anything is touched."""
        failed = """UPDATE "_prisma_migrations" SET finished_at = {} WHERE migration_name LIKE '%litellm_call_id%'"""
        self.sql(failed.format("NULL"), STOCK)
        url = f"postgresql://{ROLE}:{PASSWORD}@{self.database.address}:{self.lab.database_port}/{STOCK}"
        stock_gateway = psycopg2.connect(url, application_name="stock")
        try:
            self.play("playbooks/switch_from_prisma.yml")
        except AssertionError as error:
            said = " ".join(str(error).split())
            assert "Nothing was touched." in said, said
            assert "failed or was interrupted" in said, said
        else:
            raise AssertionError("a failed migration was not refused")
        finally:
            stock_gateway.close()
            self.sql(failed.format("started_at"), STOCK)
        assert self.counts()["requests"] == 0

    def go_there(self) -> None:
        """Broken off while the backup is restored and while calls are stored, then to its end."""
        self.play("playbooks/switch_from_prisma.yml", kill_at="Restore the backup here", once=self.restoring)
        self.play("playbooks/switch_from_prisma.yml", kill_at="Store LiteLLM's calls", once=self.filling)
        # What was begun on the host goes on without Ansible: kill that, too.
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{REHEARSAL}' AND usename = 'litellm_owner'"
        )
        begun = self.counts()
        assert 0 < begun["requests"] < self.spend_logs, f"killed too early or too late: {begun}"
        started = time.monotonic()
        self.play("playbooks/switch_from_prisma.yml")
        self.durations["switch_from_prisma.yml"] = time.monotonic() - started
        there = self.counts()
        assert there["backfilled"] == self.spend_logs, there
        assert there["keys"] == 80, there
        assert there["requests"] == there["responses"] == self.spend_logs + 1, there
        assert json.loads((self.files / "parity.json").read_text())["equal"]
        assert self.owners() == "litellm_owner"

    def prisma_there(self) -> None:
        """Prisma's client works as the service, and not as the role that had the database before."""
        service = self.lab.database_user, str(self._password())
        found = self.prisma(*service, "--write", "there")
        assert "error" not in found, found
        assert found["written"]["spend"] == 0.1 + 0.2, found
        assert (found["keys"], found["spend_logs"] > self.spend_logs) == (81, True), found
        assert found["migrations"]["failed"] == 0, found
        assert found["key"]["litellm_budget_table"]["budget_id"] == "budget-3", found
        assert "denied" in self.prisma(ROLE, PASSWORD)["error"]

    def go_back(self) -> None:
        """Broken off while the tables change hands, then to its end; again, it changes nothing."""
        self.call(KEY)
        self.play("playbooks/switch_back.yml", kill_at="Give LiteLLM's tables to")
        started = time.monotonic()
        self.play("playbooks/switch_back.yml")
        self.durations["switch_back.yml"] = time.monotonic() - started
        assert "changed=0" in self.play("playbooks/switch_back.yml").rsplit("postgresql1", 1)[-1]
        assert self.owners() == ROLE

    def prisma_back(self) -> None:
        """Prisma's client works as the stock gateway's role, and finds what was made since."""
        found = self.prisma(ROLE, PASSWORD, "--write", "back")
        assert "error" not in found, found
        assert (found["keys"], found["teams"]) == (82, 12), found
        assert found["written"]["spend"] == 0.1 + 0.2, found
        migrate = psycopg2.connect(
            f"postgresql://{ROLE}:{PASSWORD}@{self.database.address}:{self.lab.database_port}/{REHEARSAL}"
        )
        with migrate, migrate.cursor() as cursor:  # as Prisma's migrations would
            cursor.execute(
                'ALTER TABLE "LiteLLM_Config" ADD COLUMN rehearsal int; CREATE TABLE "LiteLLM_Rehearsal" (id int)'
            )
            cursor.execute('ALTER TABLE "LiteLLM_Config" DROP COLUMN rehearsal; DROP TABLE "LiteLLM_Rehearsal"')
        migrate.close()

    def go_there_again(self) -> None:
        """In place: only the calls of the time in between are new."""
        before = self.counts()
        self.play("playbooks/switch_from_prisma.yml")
        after = self.counts()
        # Of the two that Prisma's client wrote, each is one; our gateway's own calls are in the log already.
        assert after["backfilled"] == before["backfilled"] + 2, (before, after)
        assert after["requests"] == before["requests"] + 3, (before, after)
        self.call(KEY)

    def remove(self) -> None:
        """Nothing is left of an earlier rehearsal."""
        for database in (REHEARSAL, STOCK):
            self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.sql(f"DROP ROLE IF EXISTS {ROLE}")
        self.database.run(
            "rm -rf /var/backups/litellm/to-litellm_rehearsal-* /var/backups/litellm/*-litellm_rehearsal-*"
        )

    def go_home(self) -> None:
        """The lab is as it was: the gateway at its own database."""
        self.play("site.yml", own=False)
        self.remove()
        self.call(self.lab.master_key)

    def _password(self) -> str:
        secrets = yaml.safe_load((self.inventory / "group_vars" / "all" / "secrets.yml").read_text())
        return str(secrets["database_password"])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--inventory", type=Path, default=Path("inventory/lab"), help="the lab")
    parser.add_argument("--spend-logs", type=int, default=100_000, help="calls of the stock gateway")
    arguments = parser.parse_args()
    rehearsal = Rehearsal(arguments.inventory.resolve(), arguments.spend_logs)
    acts: list[Callable[[], None]] = [
        rehearsal.make_stock,
        rehearsal.refuse,
        rehearsal.go_there,
        rehearsal.prisma_there,
        rehearsal.go_back,
        rehearsal.prisma_back,
        rehearsal.go_there_again,
    ]
    try:
        for act in acts:
            started = time.monotonic()
            act()
            rehearsal.durations[act.__name__] = time.monotonic() - started
            print(f"{act.__name__}: {rehearsal.durations[act.__name__]:.0f} s", flush=True)
    finally:
        started = time.monotonic()
        rehearsal.go_home()
        print(f"go_home: {time.monotonic() - started:.0f} s", flush=True)
    print(json.dumps({name: round(seconds, 1) for name, seconds in rehearsal.durations.items()}))


if __name__ == "__main__":
    main()
