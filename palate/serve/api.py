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
        (400, "The request is not one, or names the service wrongly."),
        (401, "The service wants a key."),
        (404, "There is no such model, item or picture."),
        (408, "The body did not arrive in time."),
        (413, "The body is too large."),
        (422, "Something in the request cannot be; the message names it."),
        (503, "Too many requests are waiting, or the models are still being loaded."),
        (504, "The model took too long."),
    )
}
router = APIRouter(prefix="/v1", responses=_FAILURES)
ModelName = Annotated[str | None, Query(max_length=512, description="One of /v1/models; the first by default.")]


@router.post("/recommend", response_model=schema.RecommendResponse, tags=["recommend"])
async def recommend(body: schema.RecommendRequest, request: Request) -> Response:
    """The best items after a history of items, fresh from the client: nobody has to be known here."""
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
    """What was taken of an answer, or elsewhere. The service keeps it, where it was started with ``--feedback``."""
    service = _service(request)
    kept = await _in_time(service, service.feedback.taken(body, service.loaded.models))
    return _json(schema.FeedbackResponse(kept=kept))


@router.post("/similar", response_model=schema.SimilarResponse, tags=["recommend"])
async def similar(body: schema.SimilarRequest, request: Request) -> Response:
    """The items most like one: to the model, in their texts or in their pictures."""
    service = _service(request)
    _within(service, "deny", body.deny)
    _few(service, body.k)
    model = _model(service.loaded, body.model)
    _item(model, body.item)
    return _json(await _in_time(service, service.in_thread(model.similar, body)))


@router.post("/explain", response_model=schema.ExplainResponse, tags=["recommend"])
async def explain(body: schema.ExplainRequest, request: Request) -> Response:
    """Why an item has its score: what each item of the history adds, and what its own text, picture and id do."""
    service = _service(request)
    _history(service, body)
    model = _model(service.loaded, body.model)
    _item(model, body.item)
    return _json(await _in_time(service, model.explain(body)))


@router.get("/models", response_model=schema.Models, tags=["look around"])
async def models(request: Request) -> Response:
    """What can be body; the first is the default."""
    return _json(schema.Models(models=[one.facts for one in _service(request).loaded.models.values()]))


@router.get("/items", response_model=schema.ItemPage, tags=["look around"])
async def items(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="Words of the title, or an item id.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 24,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    model: ModelName = None,
) -> Response:
    """Search the catalogue; without words, its items by popularity."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    found, total = await _in_time(service, service.in_thread(chosen.search, q, limit, offset))
    return _json(schema.ItemPage(items=[chosen.shown.item(index) for index in found], total=total))


@router.get("/items/{item_id:path}", response_model=schema.Item, tags=["look around"])
async def item(item_id: str, request: Request, model: ModelName = None) -> Response:
    """Everything that the catalogue knows of an item."""
    chosen = _model(_service(request).loaded, model)
    return _json(chosen.shown.item(_item(chosen, item_id), fields=True))


@router.get("/fields", response_model=schema.Fields, tags=["look around"])
async def fields(request: Request, model: ModelName = None) -> Response:
    """What only and without can name: the fields of the catalogue, with frequent values and the range of numbers."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    return _json(await _in_time(service, service.in_thread(lambda: chosen.fields)))


@router.get("/users", response_model=schema.People, tags=["look around"])
async def users(request: Request, model: ModelName = None) -> Response:
    """Users to try the service with, if it was started with some."""
    service = _service(request)
    chosen = _model(service.loaded, model)
    return _json(await _in_time(service, service.in_thread(_people, service, chosen)))


@router.get(
    "/images/{item_id:path}",
    tags=["look around"],
    response_class=Response,
    responses={200: {"content": {TYPE: {}}, "description": "A small picture."}, 304: {"description": "As before."}},
)
async def image(
    item_id: str,
    request: Request,
    size: Annotated[
        int | None,
        Query(
            ge=1,
            le=4096,
            description="Longest side in pixels: the next of 64, 128, 256 ..., up to a limit.",
        ),
    ] = None,
) -> Response:
    """The picture of an item, made small and written anew."""
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
    """Load bundles that have changed on disk. Only where the service has a key; elsewhere: the signal HUP."""
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


def _people(service: Service, model: Served) -> schema.People:
    return schema.People(users=[as_seen(person, model) for person in service.people])


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
