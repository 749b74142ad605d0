"""Mistakes in what is passed through to LiteLLM: models, secrets in the open, names that lead nowhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

PASSED_THROUGH = (
    "litellm_models",
    "litellm_general_settings",
    "litellm_router_settings",
    "litellm_settings",
    "litellm_extra_config",
)
REFERENCE = "os.environ/"
SET_BY_THE_ROLE = re.compile(r"LITELLM_(MASTER_KEY|SALT_KEY|DB_\w+)|UI_(USERNAME|PASSWORD)|DISABLE_SCHEMA_UPDATE")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET_NAME = re.compile(r"(?<!public_)(key|token|secret|password|passwd|credentials)$", re.IGNORECASE)
SECRET_VALUE = re.compile(
    r"(?<![\w-])sk-[\w-]{4,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|PRIVATE KEY-----|://[^/\s:@]*:[^/\s@]+@"
)
NO_SECRET = re.compile(r"|none|empty|dummy|not-needed|/\S*", re.IGNORECASE)  # upstreams without a key; paths of files
OF_THE_ROLE = {  # keys of LiteLLM's configuration that have a variable of their own
    "litellm_general_settings.master_key": "litellm_master_key",
    "litellm_general_settings.database_url": "nothing: the role connects LiteLLM to PostgreSQL",
    "litellm_general_settings.allow_requests_on_db_unavailable": "litellm_allow_requests_on_db_unavailable",
    "litellm_general_settings.database_connection_pool_limit": "litellm_database_connection_pool_limit",
    "litellm_general_settings.database_connection_pool_timeout": "litellm_database_connection_pool_timeout",
    "litellm_general_settings.store_model_in_db": "litellm_store_model_in_db",
    "litellm_extra_config.model_list": "litellm_models",
    "litellm_extra_config.general_settings": "litellm_general_settings",
    "litellm_extra_config.router_settings": "litellm_router_settings",
    "litellm_extra_config.litellm_settings": "litellm_settings",
    "litellm_extra_config.environment_variables": "litellm_environment",
    "litellm_environment.DATABASE_URL": "nothing: the role connects LiteLLM to PostgreSQL",
    "litellm_secrets.DATABASE_URL": "nothing: the role connects LiteLLM to PostgreSQL",
}


def gateway_mistakes(hosts: Hosts, secrets_file: str) -> list[Mistake]:
    """Return the mistakes in the variables of the gateway hosts."""
    checks = (_models, _model_names, _fallbacks, _owned_keys, _environment, partial(_secrets, file=secrets_file))
    return [
        (host, at, says)
        for host, variables in hosts.items()
        if "litellm" in variables["group_names"]
        for check in checks
        for at, says in check(variables)
    ]


def _models(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    models = variables.get("litellm_models")
    if not models and "litellm_models" not in variables["unreadable"]:
        yield "litellm_models", "litellm_models has no model: the gateway needs at least one."
    for index, model in enumerate(models if isinstance(models, list) else []):
        at = f"litellm_models[{index}]"
        if not isinstance(model, Mapping):  # its type is refused elsewhere
            continue
        if not isinstance(model.get("model_name"), str) or not model["model_name"]:
            yield at, f"{at} has no model_name: that is what clients ask for."
        provider_model = _mapping(model.get("litellm_params")).get("model")
        if not isinstance(provider_model, str) or not provider_model:
            yield at, f"{_described(variables, at)} has no litellm_params.model, such as openai/gpt-4o-mini."


def _model_names(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield deployments that share a name without an id each.

    LiteLLM spreads the calls over deployments of one name. That is asked for by giving each its own
    model_info.id; without, it is taken for a copied entry whose name was not changed.
    """
    models = _model_list(variables)
    ids = [_mapping(model.get("model_info")).get("id") for model in models]
    for identity, count in Counter(str(identity) for identity in ids if identity).items():
        if count > 1:
            says = f"litellm_models has {count} models with the model_info.id {identity}: each needs its own."
            yield "litellm_models", says
    for name, count in Counter(str(model["model_name"]) for model in models if model.get("model_name")).items():
        alike = [identity for model, identity in zip(models, ids, strict=True) if model.get("model_name") == name]
        if count > 1 and not all(alike):
            says = f"litellm_models has {count} models named {name}: rename one or, if they are to share the calls, "
            yield "litellm_models", says + "give each its own model_info.id."


def _fallbacks(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield fallbacks from or to a model that is not there; with wildcard models any name may exist."""
    names = {str(model.get("model_name")) for model in _model_list(variables)}
    names |= set(_mapping(_mapping(variables.get("litellm_router_settings")).get("model_group_alias")))
    if any("*" in name for name in names):
        return
    for container in ("litellm_router_settings", "litellm_settings"):
        for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            at = f"{container}.{kind}"
            for name in _fallback_names(_mapping(variables.get(container)).get(kind)):
                if name not in names and name != "*":
                    yield at, f"{at} names the model {name}, which is not in litellm_models."


def _fallback_names(entries: Any) -> Iterator[str]:
    """Yield the models in LiteLLM's form of fallbacks: a list of {model: [its stand-ins]}."""
    for entry in entries if isinstance(entries, list) else []:
        for source, targets in _mapping(entry).items():
            yield source
            yield from (target for target in targets if isinstance(target, str)) if isinstance(targets, list) else ()


def _owned_keys(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for at, instead in OF_THE_ROLE.items():
        container, key = at.split(".")
        if key in _mapping(variables.get(container)):
            yield at, f"{at} is not for you to set: use {instead}."


def _environment(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    secrets, plain = (_mapping(variables.get(name)) for name in ("litellm_secrets", "litellm_environment"))
    for container, names in (("litellm_secrets", secrets), ("litellm_environment", plain)):
        for name in names:
            at = f"{container}.{name}"
            if not ENVIRONMENT_NAME.fullmatch(name):
                yield at, f"{at} cannot be the name of an environment variable: use letters, digits and underscores."
            elif SET_BY_THE_ROLE.fullmatch(name):
                yield at, f"{at} is set by the role itself: remove it."
    for name in sorted(set(secrets) & set(plain)):
        yield f"litellm_environment.{name}", f"{name} is both in litellm_environment and in litellm_secrets: keep one."


def _secrets(variables: Mapping[str, Any], file: str) -> Iterator[tuple[str, str]]:
    """Yield secrets written in the open, and os.environ/NAME that leads nowhere."""
    known = set(_mapping(variables.get("litellm_secrets"))) | set(_mapping(variables.get("litellm_environment")))
    for container in PASSED_THROUGH:
        for at, key, value in _texts(variables.get(container), container):
            where = _described(variables, at)
            name = value.removeprefix(REFERENCE)
            if at in OF_THE_ROLE:
                continue
            if value.startswith(REFERENCE) and name not in known and not SET_BY_THE_ROLE.fullmatch(name):
                yield "", f"{where} is {value}, but litellm_secrets has no {name}: put it into {file}."
            elif not value.startswith(REFERENCE) and _is_secret(key, value):
                instead = REFERENCE + _suggested_name(variables, at, key)
                says = f"{where} holds a secret in the open: write {instead} there and put the value into "
                yield at, f"{says}litellm_secrets in {file}."
    for name, value in _mapping(variables.get("litellm_environment")).items():
        if isinstance(value, str) and _is_secret(name, value):
            at = f"litellm_environment.{name}"
            yield at, f"{at} holds a secret in the open: move it to litellm_secrets in {file}."


def _is_secret(key: str, value: str) -> bool:
    if NO_SECRET.fullmatch(value):
        return False
    return SECRET_VALUE.search(value) is not None or SECRET_NAME.search(key) is not None


def _suggested_name(variables: Mapping[str, Any], at: str, key: str) -> str:
    """Suggest a name for a secret: OPENAI_API_KEY for the api_key of openai/gpt-4o, its key otherwise."""
    model = str(_mapping(_model_at(variables, at).get("litellm_params")).get("model", ""))
    provider = f"{model.partition('/')[0]}_" if "/" in model and key == "api_key" else ""
    return re.sub(r"\W", "_", provider + key).upper()


def _texts(value: Any, at: str, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield every text in a value with its path and the key it belongs to."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{at}.{name}", str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{at}[{index}]", key)
    elif isinstance(value, str):
        yield at, key, value


def _described(variables: Mapping[str, Any], at: str) -> str:
    """Name a place in litellm_models by its model as well: litellm_models[0].litellm_params.model (gpt-4o)."""
    name = _model_at(variables, at).get("model_name")
    return f"{at} ({name})" if name else at


def _model_at(variables: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    item = re.match(r"litellm_models\[(\d+)\]", at)
    models = variables.get("litellm_models")
    return _mapping(models[int(item.group(1))]) if item and isinstance(models, list) else {}


def _model_list(variables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    models = variables.get("litellm_models")
    return [model for model in models if isinstance(model, Mapping)] if isinstance(models, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_gateway_mistakes": gateway_mistakes}
