"""What went wrong, as RFC 9457 problem details within the seed's envelope.

What must not break: what is answered is in words of ours. A path, a statement, a secret's source
or a traceback is for the log of whoever runs the server, never for who asks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from wabcast.errors import Busy, NotFound, Refused, StoreError, UsageError, WabcastError
from wabcast.server.headers import HEADERS
from wabcast.store.database import DatabaseError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

log = logging.getLogger("wabcast.server")

KIND = "urn:wabcast:problem:"
AGAIN = {"retry-after": "5"}

# By class, the narrower first. What is none of these is a mistake of ours.
_STATUS: tuple[tuple[type[WabcastError], int], ...] = (
    (NotFound, 404),
    (Busy, 409),
    (Refused, 400),
    (UsageError, 400),
)


class Problem(Exception):
    """A refusal with a status of its own, raised where the answer is made."""

    def __init__(self, status: int, detail: str, *, code: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code


def failure(
    status: int,
    detail: str,
    *,
    code: str = "",
    hint: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """`{success: false, message, data: {type, title, status, detail, ...}}`."""
    title = HTTPStatus(status).phrase
    kind = code or title.lower().replace(" ", "-")
    data: dict[str, Any] = {
        "type": KIND + kind.replace("_", "-"),
        "title": title,
        "status": status,
        "detail": detail,
    }
    if hint:
        data["hint"] = hint
    if errors:
        data["errors"] = list(errors)
    told = {"success": False, "message": detail, "data": data}
    return JSONResponse(told, status_code=status, headers={**HEADERS, **(headers or {})})


def of(exc: WabcastError) -> JSONResponse:
    """A refusal of the program's, as it is told over HTTP."""
    for kind, status in _STATUS:
        if isinstance(exc, kind):
            headers = AGAIN if kind is Busy else None
            return failure(
                status, exc.message, code=exc.code, hint=_for_here(exc.hint), headers=headers
            )
    log.error("%s", exc.message, exc_info=exc)
    if isinstance(exc, StoreError):
        return failure(503, "the database cannot be used now", code=exc.code, headers=AGAIN)
    return failure(500, "something went wrong on the server; its log says what")


def _for_here(hint: str) -> str:
    """A hint that names a command or an option is for a shell."""
    return "" if "wabcast " in hint or "--" in hint or "`" in hint else hint


async def bug(_request: Request, exc: Exception) -> JSONResponse:
    """A mistake of ours, wherever it is met."""
    log.error("a bug", exc_info=exc)
    return failure(500, "something went wrong on the server; its log says what")


def install(app: FastAPI) -> None:
    """Have every failure of `app` answered from here."""

    async def refused(_request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, WabcastError)  # noqa: S101  # tells mypy what Starlette hands over
        return of(exc)

    async def problem(_request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, Problem)  # noqa: S101  # as above
        return failure(exc.status, exc.detail, code=exc.code)

    async def http(_request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, HTTPException)  # noqa: S101  # as above
        return failure(exc.status_code, _detail(exc), headers=exc.headers)

    async def invalid(_request: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, RequestValidationError)  # noqa: S101  # as above
        errors = [
            {"field": ".".join(str(part) for part in error["loc"])[:200], "message": error["msg"]}
            for error in exc.errors()[:20]
        ]
        first = f": {errors[0]['field']}: {errors[0]['message']}" if errors else ""
        return failure(422, f"the request is not as documented{first}", errors=errors)

    async def store(_request: Request, exc: Exception) -> JSONResponse:
        log.error("the database: %s", exc)
        return failure(503, "the database cannot be used now", headers=AGAIN)

    async def unreadable(_request: Request, _exc: Exception) -> JSONResponse:
        return failure(400, "a text holds what no text can: a lone surrogate or a NUL")

    app.add_exception_handler(WabcastError, refused)
    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(DatabaseError, store)
    app.add_exception_handler(UnicodeError, unreadable)
    app.add_exception_handler(Exception, bug)


def _detail(exc: HTTPException) -> str:
    match exc.status_code:
        case 404:
            return "there is nothing at this address"
        case 405:
            return "this address does not know the method"
        case 413:
            return "the body is too large"
        case _:
            return str(exc.detail)
