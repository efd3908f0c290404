"""`GET` and `POST {base}/attributes`: the account's attributes and their types."""

import json
from dataclasses import asdict, replace
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.types import Scope

from bunce_attributes.sandbox.answers import HangUp, Reply, Wording, encoded, spoiled
from bunce_attributes.sandbox.attributes import Attributes, BadPageError
from bunce_attributes.sandbox.calls import Pause
from bunce_attributes.sandbox.config import DATA_TYPES
from bunce_attributes.sandbox.fault_state import ActiveFaults
from bunce_attributes.sandbox.faults import AnswerRule, HangRule, HangUpRule, MalformedRule, TrickleRule

_LIST_MESSAGE: Final = "Attributes successfully fetched."
_CREATED_MESSAGE: Final = "Attribute successfully created."


class _RefusedError(Exception):
    """A request that breaks a rule."""

    def __init__(self, message: str | None, errors: dict[str, list[str]] | None = None, status: int = 422) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors
        self.status = status


class AttributesApi:
    """Lists and creates attributes; `pause` as for calls."""

    def __init__(self, attributes: Attributes, pause: Pause) -> None:
        self._attributes = attributes
        self._pause = pause

    async def reply(self, scope: Scope, body: bytes, wording: Wording, faults: ActiveFaults) -> Reply:
        """Answer, or do what a fault that is `on` attributes says."""
        rule = None if faults.idle else faults.rule_for("attributes")
        if isinstance(rule, HangRule):
            await self._pause(rule.seconds, faults.replaced if rule.seconds is None else None)
            if not rule.save:
                return HangUp()
        if isinstance(rule, HangUpRule):
            return HangUp(reset=rule.reset)
        if isinstance(rule, AnswerRule) and rule.status >= 300:
            return wording.on_demand(rule, [], encoded({}))
        creates = scope["method"] == "POST"
        try:
            answered = self._create(body) if creates else self._list(scope["query_string"].decode("latin-1"))
        except _RefusedError as refused:
            return wording.failure(refused.status, refused.message, errors=refused.errors)
        ordinary = encoded(answered, 201 if creates else 200)
        match rule:
            case AnswerRule():
                return wording.on_demand(rule, [], ordinary)
            case MalformedRule(kind=kind):
                return spoiled(kind, answered, 0)
            case TrickleRule(seconds=seconds):
                return replace(ordinary, trickle_seconds=seconds)
            case _:
                return ordinary

    def _list(self, query: str) -> dict[str, Any]:
        given = parse_qs(query)
        try:
            page = self._attributes.page(
                per_page=given.get("per_page", [None])[0],
                cursor=given.get("cursor", [None])[0],
            )
        except BadPageError as error:
            raise _RefusedError(str(error)) from error
        return {"success": True, "message": _LIST_MESSAGE, **page}

    def _create(self, body: bytes) -> dict[str, Any]:
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError("The request body is not valid JSON.", status=400) from error
        given: dict[str, Any] = payload if isinstance(payload, dict) else {}
        name = given.get("name")
        data_type = next((known for known in DATA_TYPES if known == given.get("data_type")), None)
        errors: dict[str, list[str]] = {}
        if not (isinstance(name, str) and name):
            errors["name"] = ["The name field is required."]
        if data_type is None:
            errors["data_type"] = [f"The data_type field must be one of {', '.join(DATA_TYPES)}."]
        if errors or data_type is None or not isinstance(name, str):
            raise _RefusedError(None, errors)
        return {"success": True, "message": _CREATED_MESSAGE, "data": asdict(self._attributes.create(name, data_type))}
