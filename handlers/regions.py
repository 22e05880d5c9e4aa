"""What the services of a region are called."""

DNS_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}
"""How regions outside the common partitions begin, to the end of their services' names."""


def dns_suffix(region: str) -> str:
    """Return the end of the names of a region's services, such as ``amazonaws.com``."""
    return next((suffix for start, suffix in DNS_SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
