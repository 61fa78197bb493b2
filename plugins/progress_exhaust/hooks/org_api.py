"""HTTP: the user-org service, for an org's data security policy and its public key (data model, section 6)."""

from typing import Any, Self

import requests
from airflow.sdk.exceptions import AirflowNotFoundException

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.hooks.sunbird_api import NOT_FOUND, SunbirdApiHook, message, response_code

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
        answer = self._send("POST", self._preferences_path, json={"request": {"orgId": org_id, "key": POLICY}})
        if answer.status_code == 404 and response_code(answer) == NOT_FOUND:
            return None
        response = self._response(answer, self._preferences_path)
        return response.get("data")

    def public_key_url(self, org_id: str) -> str | None:
        """Return where an org says that its public key is; None where it has none.

        Raises RequestError where it says something else than an address.
        """
        answer = self._send("POST", self._search_path, json={"request": {"filters": {"id": org_id}}})
        content = self._response(answer, self._search_path).get("content")
        found = [org for org in content if isinstance(org, dict) and org.get("id") == org_id] if isinstance(content, list) else []
        if not found:
            # An org that asks for reports is there: one that is not found is no org without a key.
            raise SourceError(f"{self._where()} does not find the org {org_id}: is its index being made?")
        keys = found[0].get("keys") or {}
        urls = keys.get(PUBLIC_KEYS) if isinstance(keys, dict) else [None]
        if urls is None or urls == []:
            return None
        url = urls[0] if isinstance(urls, list) else urls
        if not isinstance(url, str) or not url:
            raise RequestError("The org's public key cannot be found: let the org name its address again, then ask again")
        return url

    def _response(self, answer: requests.Response, path: str) -> dict[str, Any]:
        result = self._result(answer, path)
        code, response = response_code(answer), result.get("response")
        if code not in (None, "OK"):
            raise SourceError(f"{self._where()} answered {path} with {str(code)[:60]} {message(answer)}")
        if response is not None and not isinstance(response, dict):
            raise SourceError(f"{self._where()} answered {path} with something else than the API's JSON")
        return response or {}
