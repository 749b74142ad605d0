"""What holds on every host of the product, whatever it does."""

from typing import Any

SUPPORTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")}


def test_system_is_a_supported_one(host: Any) -> None:
    assert (host.system_info.distribution, host.system_info.release.split(".")[0]) in SUPPORTED or (
        host.system_info.distribution,
        host.system_info.release,
    ) in SUPPORTED


def test_no_unit_of_ours_has_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend 'litellm*' 'postgresql*'") == ""


def test_no_unit_waits_to_be_read_anew(host: Any) -> None:
    """A unit file that was changed without `daemon-reload` is not the one that runs."""
    units = host.check_output(
        "systemctl list-units --plain --no-legend 'litellm*' 'postgresql@*' | cut -d' ' -f1"
    ).split()
    assert units
    for unit in units:
        assert host.check_output("systemctl show --property=NeedDaemonReload --value %s", unit) == "no", unit


def test_nothing_of_ours_can_be_written_by_everybody(host: Any) -> None:
    places = "/opt/litellm /etc/litellm /var/lib/litellm /etc/postgresql /var/lib/postgresql /etc/systemd/system"
    found = host.check_output(
        f"for place in {places}; do [ -e $place ] && find $place -not -type l -not -type s -perm /002; done; true"
    )
    assert found == ""


def test_ansible_left_nothing_behind(host: Any) -> None:
    """Its temporary files hold the arguments of tasks, passwords among them."""
    places = "/root/.ansible/tmp /var/tmp /tmp"
    found = host.check_output(
        f"for place in {places}; do [ -d $place ] && find $place -maxdepth 1 -name 'ansible-tmp-*' -mmin +5; done; true"
    )
    assert found == ""
