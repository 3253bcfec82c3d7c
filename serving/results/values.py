"""Whether the values of a dataset fit their value representations (PS3.5 6.2), without changing the dataset."""

from collections.abc import Iterator

from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import STR_VR, validate_value


def first_unlawful(
    dataset: Dataset, passed_over: frozenset[int] = frozenset(), references: frozenset[str] = frozenset()
) -> DataElement | None:
    """The first element, at any depth, one of whose values breaks its VR; None where all fit.

    ``passed_over`` are tags of the root that are not looked at (nor decoded); ``references`` are UIDs that
    may be broken.
    """
    for element in _texts(dataset, passed_over):
        values = element.value if element.VM > 1 else [element.value]
        for value in values:
            if value is None or value == "" or (element.VR == "UI" and str(value) in references):
                continue
            try:
                validate_value(element.VR, str(value), config.RAISE)
            except ValueError:
                return element
    return None


def _texts(dataset: Dataset, passed_over: frozenset[int] = frozenset()) -> Iterator[DataElement]:
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would decode what must stay raw
        if tag in passed_over:
            continue
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in STR_VR:
            yield element
