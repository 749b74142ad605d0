"""Ansible connection to a host of the lab: `podman exec` with pipelining.

`containers.podman.podman` copies every module into the host first and takes six calls of podman a
task; this one takes one, so that a run over the lab takes a third of the time.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase, ensure_connect

DOCUMENTATION = """
name: lab_host
author: the authors of this project
short_description: Run commands in a host of the lab
description:
  - Runs commands and moves files with C(podman exec).
options:
  remote_addr:
    description: Name of the container.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  podman_executable:
    description: Path of podman.
    default: podman
    vars:
      - name: ansible_podman_executable
"""

PODMAN_FAILED = 125
"""podman's own failure, not the command's: the host is not there or does not run."""


class Connection(ConnectionBase):
    """One host; nothing is kept open between calls."""

    transport = "lab_host"
    has_pipelining = True

    def _connect(self) -> Connection:
        """Nothing to do: every call stands alone."""
        self._connected = True
        return self

    def _exec(self, argv: list[str], data: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run argv in the host, feeding it data; returns code, stdout, stderr."""
        command = [self.get_option("podman_executable"), "exec", "--interactive", self.get_option("remote_addr"), *argv]
        done = subprocess.run(command, input=data or b"", capture_output=True, check=False)  # noqa: S603
        if done.returncode == PODMAN_FAILED:
            message = done.stderr.decode(errors="replace").strip()
            raise AnsibleConnectionFailure(f"podman cannot enter the host: {message} (`make up` boots the lab)")
        return done.returncode, done.stdout, done.stderr

    @ensure_connect
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a shell command line."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._exec(["/bin/sh", "-c", cmd], in_data)

    @ensure_connect
    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller into the host."""
        super().put_file(in_path, out_path)
        code, _, stderr = self._exec(["/bin/sh", "-c", 'exec cat >"$1"', "sh", out_path], Path(in_path).read_bytes())
        if code != 0:
            raise AnsibleError(f"cannot write {out_path}: {stderr.decode(errors='replace').strip()}")

    @ensure_connect
    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the host to the controller."""
        super().fetch_file(in_path, out_path)
        code, stdout, stderr = self._exec(["cat", in_path])
        if code != 0:
            raise AnsibleError(f"cannot read {in_path}: {stderr.decode(errors='replace').strip()}")
        Path(out_path).write_bytes(stdout)

    def close(self) -> None:
        """Nothing is open."""
        self._connected = False
