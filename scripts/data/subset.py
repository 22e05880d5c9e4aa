"""Some of the galaxies of a source: the first, or those for which a condition holds."""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.command.errors import SourceError, UsageError
from scripts.data.selection import BLOCK_ROWS, TABLE_BLOCK_ROWS
from scripts.data.source import Source

_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def rows_where(source: Source, condition: str, tick: Callable[[int], None] = lambda _: None) -> NDArray[np.int64]:
    """Return the rows of a source for which a condition holds, ascending.

    Parameters
    ----------
    source : Source
    condition : str
        Comparisons of numbers and of a galaxy's values, joined by ``and``, ``or``, ``not``, with ``+ - * /`` and
        brackets, as in ``r < 17.8 and g - r > 0.5``. A galaxy without a value that is compared is left out.
    tick : callable
        Called with the number of galaxies judged.

    Raises
    ------
    UsageError
        If it is no such condition, or names something else.
    SourceError
        If no galaxy is left.
    """
    tree = _parse(condition)
    has_records = source.records is not None and source.is_rendered
    size = TABLE_BLOCK_ROWS if has_records else BLOCK_ROWS
    found = [np.empty(0, np.int64)]
    for start in range(0, len(source.galaxies), size):
        stop = min(start + size, len(source.galaxies))
        holds = _holds(tree, _values(source, start, stop), condition)
        found.append(np.flatnonzero(np.broadcast_to(holds, stop - start)) + start)
        tick(stop - start)
    rows = np.concatenate(found)
    if not len(rows):
        raise SourceError(f"WHERE={condition}: none of the {len(source.galaxies):,} galaxies is left.")
    return rows


def _parse(condition: str) -> ast.expr:
    try:
        return ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong(condition) from error


def _wrong(condition: str, what: str = "") -> UsageError:
    return UsageError(
        f'WHERE={condition} is not valid{what}: it compares values of a galaxy, as in "r < 17.8 and z_spec > 0.1".'
    )


def _values(source: Source, start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Return what can be compared, by name."""
    if source.records is not None and source.is_rendered:
        rows = source.records.rows(start, stop)
        magnitudes, redshifts, identifiers = rows["magnitudes"], rows["redshift"], rows["object_id"]
    else:
        block = source.galaxies.rows(start, stop)
        magnitudes, redshifts, identifiers = block.magnitudes, block.redshifts, block.object_id
    facts = source.galaxies.facts(start, stop)
    light = np.where((magnitudes > 0) & (magnitudes < 99), magnitudes, np.nan)
    return {
        **{band: light[:, number] for number, band in enumerate(source.origin.bands)},
        "z_spec": redshifts,
        "ra": facts.ra_deg,
        "dec": facts.dec_deg,
        "object_id": identifiers,
    }


def _holds(node: ast.expr, values: Mapping[str, Any], condition: str, *, is_true: bool = True) -> Any:
    """Return for which galaxies a condition is known to be true, or to be false."""
    match node:
        case ast.BoolOp(op=ast.And() | ast.Or() as joint, values=parts):
            join = np.logical_and if isinstance(joint, ast.And) == is_true else np.logical_or
            return reduce(join, [_holds(part, values, condition, is_true=is_true) for part in parts])
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return _holds(part, values, condition, is_true=not is_true)
        case ast.Compare(left=first, ops=signs, comparators=others) if all(
            type(sign) in _COMPARISONS for sign in signs
        ):
            numbers = [_number(part, values, condition) for part in (first, *others)]
            pairs = zip(signs, numbers, numbers[1:], strict=False)
            found = reduce(np.logical_and, [_COMPARISONS[type(sign)](a, b) for sign, a, b in pairs])
            return reduce(np.logical_and, map(np.isfinite, numbers), found == is_true)
    raise _wrong(condition)


def _number(node: ast.expr, values: Mapping[str, Any], condition: str) -> Any:
    """Return a value of every galaxy, or one number."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            # Identifiers are exact as whole numbers alone.
            return number if isinstance(number, int) and abs(number) < 2**63 else float(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name):
            raise _wrong(condition, f", {name} is none of {', '.join(values)}")
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_number(part, values, condition)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            with np.errstate(all="ignore"):
                pair = (_number(left, values, condition), _number(right, values, condition))
                return _ARITHMETIC[type(sign)](*map(np.asarray, pair))
    raise _wrong(condition)
