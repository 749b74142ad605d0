"""`make faults`: breaks the gateway, its disk, the network and PostgreSQL under load, and counts what became of each call.

    python -m faults --list
    python -m faults --only packets-dropped

Only for inventories whose hosts are lab hosts: it kills services and fills disks.
"""
