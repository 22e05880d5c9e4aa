"""`make convert FILE=…`: a published checkpoint into safetensors, or safetensors into the published structure."""

from typing import Annotated

from msgspec import Meta

from inference.checksum import file_sha256
from scripts.command.program import start
from scripts.command.variables import Flag, Variables
from scripts.models.conversion.convert import convert

Name = Annotated[str, Meta(description="a file")]


class ConvertVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make convert`."""

    file: Name = ""
    to: Name = ""
    scalings: Annotated[str, Meta(description="a JSON file with scalings that FILE lacks")] = ""
    trust_pickle: Flag = False


def main(variables: ConvertVariables) -> None:
    """Convert FILE into the other format; TO names the target, which stands in the folder of FILE otherwise.

    TRUST_PICKLE=1 opens a published checkpoint, which is a pickle.
    """
    target, notes = convert(variables.file, variables.to, variables.scalings, trusted=variables.trust_pickle)
    for note in notes:
        print(note)
    print(f"{target}  {target.stat().st_size / 1e6:,.1f} MB, sha256 {file_sha256(target)}")


if __name__ == "__main__":
    start(main)
