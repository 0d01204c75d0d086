"""The routes under ``/v1``: checks what only the service knows (its limits, its models), and asks the models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from palate.data.timed_history import check_times
from palate.errors import PalateError, suggest
from palate.serve import schema
from palate.serve.guard import Refused
from palate.serve.loaded_models import LoadedModels
from palate.serve.people import as_seen
from palate.serve.served import Served
from palate.serve.service import Service
from palate.serve.thumbnails import TYPE

T = TypeVar("T")
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.Failure, "description": text}
    for status, text in (
        (400, "Malformed request, or a Host header that this service does not answer to."),
        (401, "Missing or wrong API key."),
        (404, "No such model, item or picture, or an endpoint that this service was started without."),
        (408, "The body did not arrive in time."),
        (413, "The body is too large."),
        (422, "Invalid value; the message names the field."),
        (
            503,
            "Too many requests or connections, models that are still being loaded, or feedback that was not written.",
        ),
        (504, "The model did not answer in time."),
    )
}
router = APIRouter(prefix="/v1", responses=_FAILURES)
ModelName = Annotated[
    str | None, Query(max_length=512, description="Name of a model of /v1/models; by default the first.")
]


@router.post("/recommend", response_model=schema.RecommendResponse, tags=["recommend"])
async def recommend(body: schema.RecommendRequest, request: Request) -> Response:
    """The best items after a history, which the client sends: users need not be known to the service."""
    service = _service(request)
    _history(service, body)
    _within(service, "deny", body.deny)
    _few(service, body.k)
    split = service.traffic if body.model is None and body.user is not None else None
    variant = None if split is None else split.model_of(str(body.user))
    model = _model(service.loaded, body.model or variant)
    answer = await _in_time(service, model.recommend(body, request.state.answer_id, variant))
    if answer.unknown:
        service.telemetry.unknown.labels(model.name).inc(len(answer.unknown))
    service.feedback.shown(body, answer, model)
    return _json(answer)


@router.post("/feedback", response_model=schema.FeedbackResponse, tags=["recommend"])
async def feedback(body: schema.FeedbackRequest, request: Request) -> Response:
    """Record the items that a user took, from a response or elsewhere. Needs a service with `--feedback`."""
    service = _service(request)
    kept = await _in_time(service, service.feedback.taken(body, service.loaded.models))
    return _json(schema.FeedbackResponse(kept=kept))


@router.post("/similar", response_model=schema.SimilarResponse, tags=["recommend"])
async def similar(body: schema.SimilarRequest, request: Request) -> Response:
    """The items most similar to one: to the model, by their texts or pictures, or by a source of neighbours."""
    service = _service(request)
    _within(service, "deny", body.deny)
    _few(service, body.k)
    model = _model(service.loaded, body.model)
    _item(model, body.item)
    return _json(await _in_time(service, service.in_thread(model.similar, body)))


@router.post("/explain", response_model=schema.ExplainResponse, tags=["recommend"])
async def explain(body: schema.ExplainRequest, request: Request) -> Response:
    """Why an item has its score: the effects of the items of the history, and of its own id, text and picture."""
    service = _service(request)
    _history(service, body)
    model = _model(service.loaded, body.model)
    _item(model, body.item)
    return _json(await _in_time(service, model.explain(body)))


@router.get("/models", response_model=schema.Models, tags=["look around"])
async def models(request: Request) -> Response:
    """The models that a request may name; the first is the default."""
    return _json(schema.Models(models=[one.facts for one in _service(request).loaded.models.values()]))


@router.get("/items", response_model=schema.ItemPage, tags=["look around"])
async def items(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="Words of the title, or an item id.")] = "",
    limit: Annotated[int, Query(ge=1, le=200, description="Number of items on a page.")] = 24,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="Number of items before the page.")] = 0,
    model: ModelName = None,
) -> Response:
    """Search titles and ids; without words, all items by popularity."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    found, total = await _in_time(service, service.in_thread(chosen.search, q, limit, offset))
    return _json(schema.ItemPage(items=[chosen.shown.item(index) for index in found], total=total))


@router.get("/items/{item_id:path}", response_model=schema.Item, tags=["look around"])
async def item(item_id: str, request: Request, model: ModelName = None) -> Response:
    """One item with all its fields."""
    chosen = _model(_service(request).loaded, model)
    return _json(chosen.shown.item(_item(chosen, item_id), fields=True))


@router.get("/fields", response_model=schema.Fields, tags=["look around"])
async def fields(request: Request, model: ModelName = None) -> Response:
    """The fields that `only` and `without` can name, with their frequent values and the range of numbers."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    return _json(await _in_time(service, service.in_thread(lambda: chosen.fields)))


@router.get("/users", response_model=schema.DemoUsers, tags=["look around"])
async def users(request: Request, model: ModelName = None) -> Response:
    """Example users, if the service was started with `--users`."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    return _json(await _in_time(service, service.in_thread(_demo_users, service, chosen)))


@router.get(
    "/images/{item_id:path}",
    tags=["look around"],
    response_class=Response,
    responses={200: {"content": {TYPE: {}}, "description": "The picture."}, 304: {"description": "Not modified."}},
)
async def image(
    item_id: str,
    request: Request,
    size: Annotated[
        int | None,
        Query(
            ge=1,
            le=4096,
            description="Longest side in pixels, rounded up to 64, 128, 256 ..., up to the limit of the service.",
        ),
    ] = None,
) -> Response:
    """The picture of an item, scaled down and written anew as WebP."""
    service = _service(request)
    try:
        found = await _in_time(service, service.in_thread(_picture, service, item_id, size, pool="pictures"))
    except PalateError as error:
        # What is wrong with the file, and where it is stored, is for the owner alone.
        service.telemetry.log.warning("picture refused", item=item_id, error=str(error))
        raise Refused(404, "no-picture", "the picture of that item cannot be shown") from None
    if found is None:
        raise Refused(404, "no-picture", "there is no picture of that item")
    tag, data = found
    headers = {"etag": f'"{tag}"', "cache-control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=TYPE, headers=headers)


@router.post("/reload", response_model=schema.ReloadResponse, tags=["operate"])
async def reload(request: Request) -> Response:
    """Load bundles that have changed on disk. Needs a service with an API key; others reload on SIGHUP."""
    service = _service(request)
    if not request.app.state.keyed:
        raise Refused(404, "not-here", "this service has no key, so it is not reloaded from outside", "Send it SIGHUP.")
    changed = await service.reload()
    return _json(schema.ReloadResponse(models=list(service.loaded.models), changed=changed))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _model(loaded: LoadedModels, name: str | None) -> Served:
    try:
        return loaded.find(name)
    except KeyError:
        raise Refused(404, "no-model", f"there is no model '{name}'", suggest(str(name), loaded.models)) from None


def _item(model: Served, item_id: str) -> int:
    try:
        return model.index_of(item_id)
    except KeyError:
        raise Refused(
            404, "no-item", f"'{model.name}' knows no item '{item_id}'", "GET /v1/items finds some."
        ) from None


def _demo_users(service: Service, model: Served) -> schema.DemoUsers:
    return schema.DemoUsers(users=[as_seen(user, model) for user in service.people])


def _picture(service: Service, item_id: str, size: int | None) -> tuple[str, bytes] | None:
    for model in service.loaded.models.values():
        path = model.picture(item_id)
        if path is not None:
            return service.thumbnails(path, size)
    return None


def _within(service: Service, name: str, ids: list[str]) -> None:
    most = service.config.max_history
    if len(ids) > most:
        raise Refused(422, "invalid", f"{name} has {len(ids):,} items, at most {most:,} are read", "Send fewer.")


def _history(service: Service, body: schema.TimedHistory) -> None:
    _within(service, "history", body.history)
    try:
        check_times("the history", len(body.history), body.history_times, body.asked)
    except PalateError as error:
        raise Refused(422, "invalid", error.message, error.remedy) from None


def _few(service: Service, k: int) -> None:
    if k > service.config.max_k:
        raise Refused(422, "invalid", f"k is {k}, at most {service.config.max_k} are given", "Ask for fewer.")


async def _in_time(service: Service, answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(service.config.timeout):
            return await answer
    except TimeoutError:
        raise Refused(504, "slow", "the model took too long", "Ask for less, or later.") from None
