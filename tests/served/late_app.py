"""The deployed app, made when the server calls the factory."""

from __future__ import annotations

from asgiref.wsgi import WsgiToAsgi


def make_asgi_app() -> WsgiToAsgi:
    from deployed_app import asgi_app

    return asgi_app
