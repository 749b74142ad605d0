"""`make faults`: breaks gateway, disk, network and PostgreSQL under load, and counts what became of each call.

    PYTHONPATH=tests python -m faults --list
    make faults ONLY=packets-dropped-in-commit

Only for inventories whose hosts are lab hosts: it kills services and fills disks.
"""
