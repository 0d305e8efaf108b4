"""A small shop: mails after the commit, prices from several sides, webhooks with retries, imports.

Start it with ``make run APP=examples/shop``. Place an order, look at prices, start an import::

    curl -d item=tea http://127.0.0.1:5000/orders
    curl "http://127.0.0.1:5000/prices?item=tea&item=cake"
    curl -X POST http://127.0.0.1:5000/imports/catalogue

Real shops send mails and ask other servers. Here, `outbox`, `suppliers` and `hook` stand for them.
"""

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_executor import DuplicateKey, Executor, GroupTimeout, Retry

app = Flask(__name__)
app.config.setdefault("SQLALCHEMY_DATABASE_URI", "sqlite:///shop.sqlite")
app.config.from_prefixed_env()  # FLASK_EXECUTOR_TYPE is EXECUTOR_TYPE

db = SQLAlchemy(app)
executor = Executor(app)

outbox: list[str] = []
suppliers: dict[str, dict[str, int]] = {
    "north": {"tea": 3, "milk": 1, "cake": 6},
    "south": {"tea": 4, "milk": 1, "cake": 5},
}


class Order(db.Model):
    """An order of one item."""

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


with app.app_context():
    db.create_all()


# A mail, once the order is in the database


def confirm(order_id: int) -> None:
    """Send the mail for an order, which another thread has committed."""
    order = db.session.get_one(Order, order_id)
    outbox.append(f"Your order {order.id}: {order.item}")


@app.post("/orders")
def place_order() -> ResponseReturnValue:
    """Store an order. Its mail is sent after the commit, and not at all without one."""
    order = Order(item=request.form["item"])
    db.session.add(order)
    db.session.flush()  # Now it has an id.
    executor.options(after=db.session).submit(confirm, order.id)
    if order.item not in suppliers["north"]:
        db.session.rollback()
        abort(400, f"we do not sell {order.item}")
    db.session.commit()
    executor.options(after="response").submit(call_hook, order.id)
    return {"order": order.id}, 201


# A webhook that is tried again


class HookDown(Exception):
    """The other server does not answer."""


hook_calls: list[int] = []
failures_to_come = [HookDown("no answer"), HookDown("no answer")]


@executor.job(retry=Retry(5, on=HookDown, delay=0.05), timeout=10)
def call_hook(order_id: int) -> None:
    """Tell another server of an order; it may be down for a while."""
    if failures_to_come:
        raise failures_to_come.pop()
    hook_calls.append(order_id)


# Prices of several suppliers at the same time


def price_at(supplier: str, item: str) -> int:
    """Ask a supplier for the price of an item."""
    return suppliers[supplier][item]


@app.get("/prices")
def best_prices() -> ResponseReturnValue:
    """The best price of each item, or 504 if the suppliers take too long."""
    items = request.args.getlist("item")
    try:
        with executor.group(timeout=5) as group:
            prices = {
                item: [group.submit(price_at, supplier, item) for supplier in suppliers]
                for item in items
            }
    except GroupTimeout:
        abort(504, "the suppliers take too long")
    except ExceptionGroup:
        abort(404, "a supplier does not have one of these items")
    return {item: min(price.result() for price in found) for item, found in prices.items()}


# An import that must not run twice at the same time


def import_catalogue(name: str) -> int:
    """Read a catalogue, and return the number of its items."""
    return sum(
        len(prices) for supplier, prices in suppliers.items() if name in {supplier, "catalogue"}
    )


@app.post("/imports/<name>")
def start_import(name: str) -> ResponseReturnValue:
    """Start an import, unless it runs already."""
    one_at_a_time = executor.options(key=f"import {name}", on_duplicate="replace")
    try:
        job = one_at_a_time.submit(import_catalogue, name)
    except DuplicateKey:
        abort(409, "this import is running")
    return {"id": job.id, "state": job.state}, 202


@app.get("/imports/<name>")
def show_import(name: str) -> ResponseReturnValue:
    """How far an import is."""
    state = executor.futures.state(f"import {name}")
    return {"state": state} if state else abort(404)
