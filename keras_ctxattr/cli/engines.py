"""The flags that say who does the work of a batch job."""

from typing import Annotated

import typer

Engine = Annotated[
    str, typer.Option("--engine", help="local: processes of this machine; ray: Ray actors.")
]
NumWorkers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes or actors, a model in each.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="RAY", help="Ray cluster; default: Ray on this machine."),
]
