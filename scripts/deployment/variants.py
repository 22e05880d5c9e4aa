"""Other memory sizes of Infer: published versions behind aliases, as AWS Lambda Power Tuning makes them.

A version is the function with its settings, frozen. So Infer gets another memory, is published, and gets its own
memory back, with no role or state machine made and nothing that Terraform would see. While it has another memory, its
description says which it was deployed with: whatever a killed sweep left is recognized by that, from any machine.

References
----------
https://github.com/alexcasalboni/aws-lambda-power-tuning
"""

import re
from collections.abc import Iterable
from typing import Any

from inference.contract import memory_alias

MARK = " [sweep: deployed with {} MB]"
MARKED = re.compile(r" \[sweep: deployed with (\d+) MB\]$")


class MemoryVariants:
    """Versions of a function with other memory sizes.

    Parameters
    ----------
    functions : client of Lambda
    name : str
        The function.
    """

    def __init__(self, functions: Any, name: str) -> None:
        self._functions = functions
        self._name = name

    def make(self, memories_mb: Iterable[int]) -> None:
        """Publish a version for every memory [MB] and put an alias before it, `inference.contract.memory_alias`.

        Raises
        ------
        ClientError
            If AWS refuses; the function has its own memory again then.
        """
        deployed = self._functions.get_function_configuration(FunctionName=self._name)
        own = {"MemorySize": deployed["MemorySize"], "Description": deployed.get("Description", "")}
        marked = own["Description"] + MARK.format(own["MemorySize"])
        try:
            for memory_mb in memories_mb:
                self._update(MemorySize=memory_mb, Description=marked)
                version = self._functions.publish_version(FunctionName=self._name)["Version"]
                waiter = self._functions.get_waiter("published_version_active")
                waiter.wait(FunctionName=self._name, Qualifier=version)
                self._functions.create_alias(
                    FunctionName=self._name, Name=memory_alias(memory_mb), FunctionVersion=version
                )
        finally:
            self._update(**own)

    def versions(self) -> list[str]:
        """Return what a sweep has made or changed: numbers of versions, and ``$LATEST`` while it has another memory."""
        every = self._all("list_versions_by_function", "Versions")
        return [one["FunctionArn"].rsplit(":")[-1] for one in every if MARKED.search(one.get("Description", ""))]

    def remove(self) -> None:
        """Leave the function as it was deployed: its own memory, and neither versions nor aliases of a sweep.

        Raises
        ------
        ClientError
            If AWS refuses.
        """
        latest = self._functions.get_function_configuration(FunctionName=self._name)
        if marked := MARKED.search(latest.get("Description", "")):
            self._update(MemorySize=int(marked[1]), Description=latest["Description"][: marked.start()])
        versions = self.versions()
        for alias in self._all("list_aliases", "Aliases"):
            if alias["FunctionVersion"] in versions:
                self._functions.delete_alias(FunctionName=self._name, Name=alias["Name"])
        for version in versions:
            self._functions.delete_function(FunctionName=self._name, Qualifier=version)

    def _all(self, operation: str, key: str) -> list[dict[str, Any]]:
        pages = self._functions.get_paginator(operation).paginate(FunctionName=self._name)
        return [one for page in pages for one in page[key]]

    def _update(self, **settings: Any) -> None:
        self._functions.update_function_configuration(FunctionName=self._name, **settings)
        self._functions.get_waiter("function_updated_v2").wait(FunctionName=self._name)
