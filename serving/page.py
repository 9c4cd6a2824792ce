"""The web page: what a person sees where a machine gets KServe's JSON."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "font-src": "'self'",
    # blob: the posters a person chose; data: the heat layers.
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""`no-cache`: a browser asks each time whether its copy, named by the ETag, is still the one."""


def add_routes(app: FastAPI) -> None:
    """Serve the page at `/` to browsers, and its files below `/page/`.

    Anything else that asks for `/` gets what KServe answers there. The page names its files and
    the model by relative URLs, so it works behind a path prefix that ends in a slash.

    Args:
        app: The application; KServe's own route at `/` must not be there yet, it would win.
    """
    files = {path.name: _File.read(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    async def root(request: Request) -> Response:
        if not prefers_html(request.headers.get("accept", "")):
            return JSONResponse({"status": "alive"}, headers={"Vary": "Accept"})
        response = files["index.html"].response(request)
        response.headers["Vary"] = "Accept"
        return response

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            return JSONResponse({"error": "the page has no such file"}, 404, _HEADERS)
        return found.response(request)

    app.add_route("/", root, include_in_schema=False)
    app.add_route("/page/{name}", file, include_in_schema=False)


def prefers_html(accept: str) -> bool:
    """Tell a browser from a program.

    Args:
        accept: The `Accept` header; empty if there is none.

    Returns:
        Whether it names `text/html`, and not below `application/json`. A wildcard names neither:
        curl and probes send one.
    """
    qualities = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (text.strip() for text in part.split(";"))
        if kind in qualities:
            qualities[kind] = _quality(parameters)
    return 0 < qualities["text/html"] >= qualities["application/json"]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


@dataclass(frozen=True)
class _File:
    """A file of the page, held in memory: all of them are 150 kB."""

    content: bytes
    headers: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "_File":
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, _HEADERS | {"Content-Type": _TYPES[path.suffix], "ETag": etag})

    def response(self, request: Request) -> Response:
        known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
        if self.headers["ETag"] in (etag.strip() for etag in known):
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers)
