"""Run the matrix: `python -m faults`, which `make faults` calls."""

import argparse
import os
import sys
import time
from pathlib import Path

from faults import matrix  # noqa: F401  # registers the faults
from faults.count import Result
from faults.database import Database
from faults.gateway import Gateway
from faults.inventory import ROOT, UnfitInventoryError, read
from faults.machine import CommandError, Machine
from faults.registry import FAULTS
from faults.report import say, table, write
from faults.run import UnhealthyError, prepared, run

EPILOG = """
Writes build/faults.json, a list of {fault, accepted, stored, lost, duplicated, orphaned, client_errors,
recovered_s, notes, problems}, and prints it as a table. `make faults ONLY="NAME NAME"` is the same as
--only NAME --only NAME. Exits 1 where a row was lost, duplicated or
orphaned, or where anything else was not as it must be.
"""


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="run this one only; may be given again")
    parser.add_argument(
        "--short", action="store_true", help="run a few only, in a form that takes less time: two or three minutes"
    )
    parser.add_argument("--list", action="store_true", help="say which faults there are, and why")
    parser.add_argument(
        "--inventory",
        type=Path,
        default=Path(os.environ.get("ANSIBLE_INVENTORY", ROOT / "inventory" / "lab")),
        help="a lab; default: ANSIBLE_INVENTORY, or inventory/lab",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "faults.json")
    arguments = parser.parse_args()
    if arguments.list:
        for fault in FAULTS.values():
            print(f"{fault.name:32} {fault.why}")
        return 0
    unknown = set(arguments.only or ()) - set(FAULTS)
    if unknown:
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; see --list")
    chosen = arguments.only or [name for name, fault in FAULTS.items() if fault.short or not arguments.short]
    try:
        lab = read(arguments.inventory)
    except UnfitInventoryError as error:
        parser.error(str(error))

    began = time.monotonic()
    gateway = Gateway(lab.podman, lab.containers["litellm"], lab.addresses["litellm"], lab.gateway_url, lab.gateway_tls)
    database = Database(
        lab.podman, lab.containers["postgresql"], lab.addresses["postgresql"], lab.database, lab.database_port
    )
    upstream = Machine(lab.podman, lab.containers["upstream"], lab.addresses["upstream"])
    try:
        for machine in (gateway, database, upstream):
            machine.run("true")
    except CommandError as error:
        parser.error(f"{error} (`make up` boots the lab)")
    results: list[Result] = []
    try:
        with prepared(gateway) as scene:
            for name, fault in FAULTS.items():
                if name in chosen:
                    results.append(run(fault, lab, scene, gateway, database, is_short=arguments.short))
    except UnhealthyError as error:
        results.append(Result("(broken off)", problems=[str(error)]))
    finally:
        write(results, arguments.output)
    print(table(results))
    failed = [result.fault for result in results if result.problems]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "nothing lost, duplicated or orphaned"
    say(f"{len(results)} faults in {time.monotonic() - began:.0f} s: {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
