"""Our clients are boto3's, whatever the service."""

import boto3
import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader

from scripts.command.aws_clients import DescriptionFinder, new_client, new_session

SERVICES = ("s3", "stepfunctions", "lambda", "iam", "ecr", "sts", "logs", "service-quotas")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"])
def test_a_description_is_the_one_that_botocore_reads(service: str, kind: str) -> None:
    def read(loader: Loader) -> object:
        try:
            return loader.load_service_model(service, kind)
        except DataNotFoundError:
            return "none"

    assert read(DescriptionFinder()) == read(Loader())


def test_a_client_has_the_region_and_the_address_of_boto3s() -> None:
    for client in (new_client("s3", region_name="eu-central-1"), new_session("eu-central-1").client("s3")):
        theirs = boto3.client("s3", region_name="eu-central-1")
        assert client.meta.region_name == theirs.meta.region_name
        assert client.meta.endpoint_url == theirs.meta.endpoint_url
        assert client.can_paginate("list_objects_v2")
        assert client.waiter_names == theirs.waiter_names


def test_sessions_read_descriptions_by_the_quicker_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    new_client("s3", region_name="eu-central-1")
    ours, default = new_session()._session, boto3.DEFAULT_SESSION._session
    assert all(isinstance(core.get_component("data_loader"), DescriptionFinder) for core in (ours, default))


def test_a_service_that_does_not_exist_is_refused_as_by_boto3() -> None:
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        new_client("no-such-service", region_name="us-east-1")
