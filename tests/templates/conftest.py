"""What the template tests share: deployments, as Ansible's own engine sees them."""

from __future__ import annotations

import pytest
from ansible_engine import Deployment, load_plugins


@pytest.fixture(scope="session", autouse=True)
def _plugins() -> None:
    """Make the filters known before the first test."""
    load_plugins()


@pytest.fixture(scope="session")
def deployment() -> type[Deployment]:
    """The class: `deployment()` is that of inventory/production; it has render() and evaluate()."""
    return Deployment
