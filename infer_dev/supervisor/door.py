"""What the supervisor has to know of the API's TCP listener: an instance may want its port."""

from infer_dev.plan.model import Endpoint


class Door:
    """One that is never open. The daemon puts its listener in this one's place."""

    @property
    def held(self) -> frozenset[Endpoint]:
        """Where it listens; it leaves at `settle` if an instance is to have that."""
        return frozenset()

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens, for people."""
        return ()

    @property
    def note(self) -> str:
        """Why it does not listen where it should, or what is wrong with it; "" if nothing is."""
        return ""

    @property
    def fault(self) -> str:
        """The note, if somebody has said where it should listen and has to be told; else ""."""
        return ""

    async def settle(self) -> None:
        """Listen where the files that are up now want it."""
