"""Services are called as AWS's own tools call them, in every partition."""

import botocore.session
import pytest

from handlers.regions import DNS_SUFFIXES, dns_suffix

PARTITIONS = botocore.session.get_session().get_component("data_loader").load_data("endpoints")["partitions"]


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda partition: str(partition["partition"]))
def test_every_region_has_the_suffix_of_its_partition(partition: dict[str, object]) -> None:
    regions = partition["regions"]
    assert isinstance(regions, dict)

    assert {dns_suffix(region) for region in regions} <= {partition["dnsSuffix"]}


def test_every_suffix_is_one_of_aws() -> None:
    assert set(DNS_SUFFIXES.values()) <= {partition["dnsSuffix"] for partition in PARTITIONS}
