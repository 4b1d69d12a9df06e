"""The parts of a page: the stores behind its routes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from upicker.io.labels import LabelFolder
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.jobs.jobs import Jobs
from upicker.web.labelling.label_store import LabelStore
from upicker.web.labelling.proposals import Proposals
from upicker.web.project import Project
from upicker.web.tiles.images import MicrographImages


@dataclass(frozen=True)
class Parts:
    """The stores behind the routes of one page; None for what the page lacks.

    Attributes
    ----------
    images : MicrographImages
        Tiles, thumbnails and boxes of the micrographs.
    labels : LabelStore or None
        The labels, where the project has a folder of them.
    picks : PickStore or None
        The picks, on the page for inspecting.
    jobs : Jobs or None
        Trainings and suggestions, on the page for labelling.
    proposals : Proposals or None
        Proposals to label from, on the page for labelling.
    """

    images: MicrographImages
    labels: LabelStore | None = None
    picks: PickStore | None = None
    jobs: Jobs | None = None
    proposals: Proposals | None = None

    @classmethod
    def of(cls, project: Project) -> Parts:
        """Return the parts of a project's page.

        Raises
        ------
        InputError
            If it is ambiguous which label file belongs to which micrograph.
        """
        images = MicrographImages(project)
        folder = None if project.labels is None else LabelFolder(project.labels, project.micrographs)
        labels = None if folder is None else LabelStore(project, folder)
        picks = None if project.picks is None else PickStore(project, folder)
        if project.mode != "label" or folder is None:
            return cls(images, labels, picks)
        jobs = Jobs(project, folder)
        return cls(images, labels, picks, jobs, Proposals(project, jobs.model))

    def close(self) -> None:
        """Stop the threads and processes of all parts, the last one first."""
        with contextlib.ExitStack() as stack:
            for part in (self.images, self.picks, self.proposals):
                if part is not None:
                    stack.callback(part.close)
