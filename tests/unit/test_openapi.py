"""The document says what there is."""

import json

import pytest

from infer_dev.api.openapi import OPERATIONS, document


def test_document_names_only_routes_that_are_there() -> None:
    made = document([("GET", "/healthz"), ("POST", "/instances/{name}/stop")])
    assert {(path, *of) for path, of in made["paths"].items()} == {
        ("/healthz", "get"),
        ("/instances/{name}/stop", "post"),
    }
    assert made["openapi"] == "3.1.0"


def test_every_reference_leads_somewhere() -> None:
    made = document(list(OPERATIONS))
    text = json.dumps(made)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(made["components"]["schemas"])
    assert named


def test_operation_ids_are_unique() -> None:
    made = document(list(OPERATIONS))
    ids = [one["operationId"] for path in made["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids) == len(OPERATIONS)


def test_route_without_a_description_is_noticed() -> None:
    with pytest.raises(KeyError):
        document([("GET", "/undescribed")])
