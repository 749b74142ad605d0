"""The hosts that a bundle and a list of components are made for: Debian 13 on x86-64, with its own Python."""

from __future__ import annotations

DISTRIBUTION = "Debian"
RELEASE = "13"
SUITE = "trixie"
ARCHITECTURE = "amd64"
MACHINE = "x86_64"
PYTHON = "3.13"
GLIBC_MINOR = 41

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON}.0",
    "os_name": "posix",
    "platform_machine": MACHINE,
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""The variables of environment markers there (PEP 508)."""

PLATFORMS = [
    *(f"manylinux_2_{minor}_{MACHINE}" for minor in range(GLIBC_MINOR, 4, -1)),
    *(f"{name}_{MACHINE}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")),
]
"""The platforms of wheels that run there, the best first (PEP 600)."""
