"""Problems of a study that concern several options at once, each with its place in the file."""

Location = tuple[str | int, ...]
"""The keys and places that lead to an option: `("tasks", "relapse", "outcome")`."""


class StudyProblems(ValueError):
    """All that is wrong with how the options of a study fit together.

    Attributes:
        problems: pairs of a location and a predicate ("names the source 'x', which is not declared").
    """

    def __init__(self, problems: list[tuple[Location, str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, where))} {text}" for where, text in problems))
        self.problems = problems
