"""HTTP: the user-org service, for an org's data security policy and its public key (data model, section 6)."""

from collections.abc import Mapping
from typing import Any, Self

import requests
from airflow.sdk.exceptions import AirflowNotFoundException

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.sunbird_api import SunbirdApiHook

POLICY = "dataSecurityPolicy"
PUBLIC_KEYS = "exhaustEncryptionKey"


class OrgApiHook(SunbirdApiHook):
    """The user-org service.

    :param preferences_path: path of the orgs' preferences below the connection's URL
    :param search_path: path of the org search
    :param timeout_seconds: how long one answer may take
    """

    default_conn_name = "progress_exhaust_org"
    api = "User-org API"

    def __init__(self, *, preferences_path: str, search_path: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._preferences_path = preferences_path
        self._search_path = search_path

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except AirflowNotFoundException:
            raise SetupError(
                f"There is no connection {self.default_conn_name}, which the orgs' security policies are read from: add it in "
                "Airflow; or set org_preferences to none, where no org of the site has one"
            ) from None

    def security_policy(self, org_id: str) -> Any:
        """Return an org's policy as it is stored; None where it has none."""
        response = self._response(self._preferences_path, {"orgId": org_id, "key": POLICY})
        return response.get("data")

    def public_key_url(self, org_id: str) -> Any:
        """Return where an org says that its public key is; None where it has none."""
        response = self._response(self._search_path, {"filters": {"id": org_id}})
        found = [org for org in response.get("content") or () if isinstance(org, dict) and org.get("id", org_id) == org_id]
        keys = found[0].get("keys") if found else None
        urls = keys.get(PUBLIC_KEYS) if isinstance(keys, dict) else None
        return urls[0] if isinstance(urls, list) and urls else urls or None

    def _response(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._send("POST", path, json={"request": request})
        if answer.status_code == 404 and _is_the_apis_own(answer):
            return {}
        response = self._result(answer, path).get("response") or {}
        if not isinstance(response, dict):
            raise SourceError(f"{self._where()} answered {path} with something else than the API's JSON")
        return response


def _is_the_apis_own(answer: requests.Response) -> bool:
    """Tell the API's word that it has no such thing from a gateway's that it has no such path."""
    try:
        return "responseCode" in answer.json()
    except (ValueError, TypeError, RecursionError):
        return False
