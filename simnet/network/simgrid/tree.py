"""XML as a tree of elements that know their lines; entities are refused, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from simnet.errors import DataError, nearest


@dataclass
class Element:
    """One element: its name, attributes, children, text, and where it stands."""

    name: str
    attributes: dict[str, str]
    file: Path
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def error(self, message: str) -> DataError:
        """An error that says where: file, line, element."""
        return DataError(f"{self.file.name}, line {self.line}: <{self.name}>: {message}")

    def get(self, attribute: str, default: str = "") -> str:
        return self.attributes.get(attribute, default)

    def need(self, attribute: str) -> str:
        """An attribute that must be there."""
        value = self.attributes.get(attribute, "")
        if not value:
            raise self.error(f"needs the attribute {attribute!r}")
        return value

    def choice(self, attribute: str, default: str, known: Collection[str]) -> str:
        """An attribute that is one of a few words, in capitals."""
        value = self.get(attribute, default).upper()
        if value not in known:
            raise self.error(f"{attribute} = {self.get(attribute)!r} is not supported: {' | '.join(known)}")
        return value

    def check(self, attributes: Collection[str], children: Collection[str]) -> None:
        """Refuses what an element of this name may not have."""
        for name in self.attributes:
            if name not in attributes:
                raise self.error(f"the attribute {name!r} is not supported{nearest(name, attributes)}")
        for child in self.children:
            if child.name not in children:
                raise child.error(f"is not supported inside <{self.name}>{nearest(child.name, children)}")

    def of(self, *names: str) -> Iterator[Element]:
        """The children of these names, in order."""
        return (child for child in self.children if child.name in names)


def read_tree(file: Path) -> Element:
    """The root element of an XML file. Raises DataError with the line for what is no XML, and for any entity."""
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    open_: list[Element] = []
    roots: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, file, parser.CurrentLineNumber)
        (open_[-1].children if open_ else roots).append(element)
        open_.append(element)

    def end(name: str) -> None:
        open_.pop()

    def data(text: str) -> None:
        if open_:
            open_[-1].text += text

    def entity(*_: Any) -> None:
        raise DataError(f"{file.name}, line {parser.CurrentLineNumber}: entities are not read; write their text out")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    parser.EntityDeclHandler = parser.SkippedEntityHandler = entity
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        said = expat.errors.messages.get(error.code, str(error))
        raise DataError(f"{file.name}, line {error.lineno}: no sound XML: {said}") from None
    except ValueError as error:
        raise DataError(f"{file.name}: no sound XML: {error}") from None
    return roots[0]
