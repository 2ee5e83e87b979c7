"""Whether the instances of a file find the memory they will need."""

from collections.abc import Iterator, Mapping

from infer_dev.check.finding import Finding, Level
from infer_dev.check.memory.plan import MemoryPlan, Planned, Portion, device_name, size_text
from infer_dev.check.subject import Subject
from infer_dev.config.place import Place
from infer_dev.llama_cpp.memory.weights import HOST
from infer_dev.llama_cpp.options.catalogue import GPU_LAYERS

UNIFIED_VARIABLE = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"


def memory_findings(
    plan: MemoryPlan, subjects: Mapping[str, Subject], environ: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """What the plan shows to be short of memory.

    Args:
        plan: all instances.
        subjects: by name; an instance without one is left out.
        environ: what instances inherit.
    """
    for one in plan.planned:
        subject = subjects.get(one.need.name)
        if subject is None:
            continue
        # With it GPUs use ordinary memory, too.
        is_unified = UNIFIED_VARIABLE in subject.spec.command.env or UNIFIED_VARIABLE in (environ or {})
        never = [] if is_unified else list(_never(plan, one, subject))
        for part in one.portions:
            if part.device == HOST:
                yield from _of_host(plan, one, part, subject)
            elif not never:
                yield from _of_gpu(plan, one, part, subject)
        yield from never
        yield from _lowered(one, subject)
        for doubt in one.estimate.doubts:
            place = subject.place_of("model")
            yield _note(subject, place, "memory-unsure", f"the memory it needs cannot be told exactly: {doubt}")


def _of_gpu(plan: MemoryPlan, one: Planned, part: Portion, subject: Subject) -> Iterator[Finding]:
    use, free = part.use, max(0, part.free_bytes)
    if use.total <= free:
        return
    gpu = next(gpu for gpu in plan.gpus if gpu.index == part.device)
    place = subject.place_of(*GPU_LAYERS, "ctx-size", "model")
    parts = f"{size_text(use.weights)} of weights, {size_text(use.cache)} of cache"
    parts += f" for {one.estimate.context_tokens} tokens, {size_text(use.compute)} to compute"
    left = f"{size_text(free)} of {size_text(gpu.total_bytes)} are free{_after(part)}"
    what = f"on {device_name(part.device)} ({gpu.name})"
    if use.total - use.driver <= free:
        assumed = f"and some {size_text(use.driver)} for the driver"
        yield _note(
            subject,
            place,
            "gpu-memory-tight",
            f"it may just not fit {what}: about {size_text(use.total - use.driver)} {assumed}, and {left}",
        )
        return
    yield Finding(
        level=Level.WARNING,
        code="gpu-memory",
        instance=subject.spec.name,
        place=place,
        message=f"it needs about {size_text(use.total)} {what}, and {left}: {parts}",
        hint=_gpu_hint(one),
    )


def _gpu_hint(one: Planned) -> str:
    settings = one.need.load.model.settings
    ways = []
    if settings.gpu_layers is not None:
        ways.append(
            "fewer gpu-layers, or leave them out to have them fitted" if settings.fits else "fewer gpu-layers"
        )
    if settings.context_tokens:
        ways.append("a smaller ctx-size")
    if settings.type_k == "f16":
        ways.append("cache-type-k and cache-type-v q8_0")
    if len(one.portions) == 2 and one.need.gpus is not None:  # noqa: PLR2004 - a GPU and the host
        ways.append("further GPUs in control.gpu_ids")
    if not settings.fits:
        ways.append("fit on")
    return f"give it {', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else "give it a smaller model"


def _of_host(plan: MemoryPlan, one: Planned, part: Portion, subject: Subject) -> Iterator[Finding]:
    if plan.host is None:
        return
    use, free = part.use, max(0, part.free_bytes)
    whose = "of the container's limit" if plan.host.is_limited else "of this host's memory"
    left = f"{size_text(free)} {whose} are free{_after(part)}"
    prompts = one.estimate.prompt_cache_bytes
    if use.fixed > free:
        yield Finding(
            level=Level.WARNING,
            code="host-memory",
            instance=subject.spec.name,
            place=subject.place_of("ctx-size", *GPU_LAYERS, "model"),
            message=f"it needs about {size_text(use.fixed)} of memory that cannot be given back, and {left}",
            hint=_host_hint(plan, "a smaller ctx-size")
            + (", or raise the container's limit" if plan.host.is_limited else ""),
        )
    elif use.total > free:
        message = f"its weights stay in the file and {size_text(use.mapped)} of them are read as needed, but {left}"
        yield Finding(
            level=Level.WARNING,
            code="host-memory-slow",
            instance=subject.spec.name,
            place=subject.place_of("model"),
            message=f"{message}: it will read them again and again, and answer slowly",
            hint=_host_hint(plan, "a smaller model"),
        )
    elif one.need.starts_itself and (prompts is None or use.fixed + prompts > free):
        most = "any number of" if prompts is None else f"up to {size_text(prompts)} of"
        yield _note(
            subject,
            subject.place_of("cache-ram", "model"),
            "prompt-cache",
            f"it may keep {most} earlier prompts in memory besides its {size_text(use.fixed)}, and {left}",
            "set cache-ram to what may be used, in MiB",
        )


def _host_hint(plan: MemoryPlan, way: str) -> str:
    return f"give it {way} or more gpu-layers" if plan.gpus else f"give it {way}"


def _never(plan: MemoryPlan, one: Planned, subject: Subject) -> Iterator[Finding]:
    """Weights alone exceed the GPUs, and nothing was left for llama-server to lower."""
    if one.need.load.model.settings.fits or one.estimate.doubts or not subject.is_sure:
        return
    used = [part for part in one.portions if part.device != HOST]
    weights = sum(part.use.weights for part in used)
    devices = {part.device for part in used}
    total = sum(gpu.total_bytes for gpu in plan.gpus if gpu.index in devices)
    if used and weights > total:
        names = " and ".join(device_name(part.device) for part in used)
        yield Finding(
            level=Level.ERROR,
            code="gpu-memory-never",
            instance=subject.spec.name,
            place=subject.place_of(*GPU_LAYERS, "fit", "model"),
            message=f"its weights alone take {size_text(weights)} of {names}, which has {size_text(total)} in all"
            if len(used) == 1
            else f"its weights alone take {size_text(weights)} of {names}, which have {size_text(total)} together",
            hint="give it fewer gpu-layers, or fit on",
        )


def _lowered(one: Planned, subject: Subject) -> Iterator[Finding]:
    told = one.estimate
    names = " and ".join(device_name(part.device) for part in one.portions if part.device != HOST) or "this host"
    if told.fitted_context:
        yield _note(
            subject,
            subject.place_of("fit", "model"),
            "fit-context",
            f"to fit {names} llama-server will lower the context from {told.fitted_context}"
            f" to about {told.context_tokens} tokens",
            "set ctx-size to have it as you want",
        )
    if told.fitted_layers:
        yield _note(
            subject,
            subject.place_of("fit", "model"),
            "fit-layers",
            f"to fit {names} llama-server will put only about {told.gpu_layers} of {told.layers} layers there",
            "the rest is computed by the CPU; take a smaller model or cache if that is too slow",
        )


def _after(part: Portion) -> str:
    return f" after {', '.join(part.after)}" if part.after else ""


def _note(subject: Subject, place: Place, code: str, message: str, hint: str = "") -> Finding:
    return Finding(level=Level.NOTE, code=code, instance=subject.spec.name, place=place, message=message, hint=hint)
