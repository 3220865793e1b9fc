import inspect
from dataclasses import dataclass

from pipeline.fields import fields_of


@dataclass
class Place:
    """A place."""

    name: str
    height_m: float = 0.0


def test_a_function_of_a_value_takes_its_fields():
    @fields_of(Place)
    def show(place: Place) -> str:
        return f"{place.name} {place.height_m}"

    assert show(name="here", height_m=2.0) == show("here", 2.0) == "here 2.0"
    assert list(inspect.signature(show).parameters.values())[1].default == 0.0
    assert inspect.signature(show).parameters["height_m"].annotation is float
