"""One training step: from a batch to the named terms of the loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.data.triplets import Batch
from ssmde_ros.geometry import sample
from ssmde_ros.networks import DepthNet, PoseNet, disparity_to_depth
from ssmde_ros.training import losses as terms
from ssmde_ros.training.config import TrainConfig
from ssmde_ros.training.contrast import contrast_loss, motion_contrast
from ssmde_ros.training.ego_motion import EgoMotion, ego_motion
from ssmde_ros.training.losses.pseudo import Convention
from ssmde_ros.training.losses.supervised import log_depth_loss
from ssmde_ros.training.mask_filter import MaskResult, TeacherViews, filter_mask
from ssmde_ros.training.relatives import relative_terms
from ssmde_ros.training.schedules import Forgetting, Ramp
from ssmde_ros.training.step import Step
from ssmde_ros.training.teacher import Teacher
from ssmde_ros.training.views import Views, seen_from


class Objective:
    """The loss of SS-MDE, term by term; every one can be switched off.

    Args:
        start_depth: harmonic mean of the depth that the student gives at first, metres.
    """

    def __init__(self, config: TrainConfig, start_depth: float, convention: Convention = "inverse_depth") -> None:
        self.config, self.start_depth, self.convention = config, start_depth, convention
        loss, teacher = config.loss, config.teacher
        floor = min(loss.pseudo_floor, loss.pseudo)
        self.static_weight = Forgetting(loss.pseudo, loss.gamma, floor)
        # Where something moves nothing better comes to replace the pseudo-depth.
        self.dynamic_weight = Forgetting(loss.pseudo, loss.gamma_dynamic, floor)
        self.consistency = Ramp(1.0, loss.geometry_begin, loss.geometry_length)
        self.distill_weight = Ramp(loss.distill, teacher.begin, teacher.length)
        self.stationary_weight = Ramp(loss.stationary, teacher.begin, teacher.length)

    def __call__(
        self, student: DepthNet, pose_net: PoseNet, teacher: Teacher | None, batch: Batch, epoch: float
    ) -> Step:
        """All terms of one batch.

        Args:
            teacher: None trains without distillation.
            epoch: fractional, for the schedules.
        """
        loss, step, consistency = self.config.loss, Step(), self.consistency[epoch]
        depths = self._depths(student, batch.augmented[:, 0])
        depth = depths[0]
        if loss.supervised > 0 and batch.depth is not None:
            far = student.config.max_depth
            step.add("supervised", log_depth_loss(depth, batch.depth, far, sky_weight=0.2), loss.supervised)
        pose = self.config.pose
        motion = ego_motion(pose_net, batch, depth, pose.min_points, pose.slack)
        distill, stationary = self.distill_weight[epoch], self.stationary_weight[epoch]
        views = self._look(student, batch, depth, motion)
        filtered, teaching = None, None
        if teacher is not None and max(distill, stationary) > 0:
            # A frozen teacher may measure in another unit than student and motions.
            teaching = teacher.look(batch).in_units_of(depth)
            if self.config.teacher.multi_view_mask:
                filtered = self._filter(batch, motion, teaching)
        held = self._self_supervise(
            step, batch, depths, motion, views, filtered, loss.geometry * consistency, stationary > 0
        )
        if teaching is not None and stationary > 0:
            step.add("stationary", terms.prior_loss(depth, teaching.depth, held, batch.inside), stationary)
            step.maps["stationary"] = held
        if teaching is not None and distill > 0:
            self._distill(step, depth, teaching, filtered, batch.inside & ~held, distill)
        if loss.pseudo > 0 and batch.pseudo is not None:
            self._pseudo(step, batch, depth, motion.motions, views, filtered, epoch)
        if consistency > 0:
            relative_terms(step, self.config, student, batch, depths, motion.motions, teaching, filtered, consistency)
        if motion.from_aid > 0 and self.config.pose.regularise > 0:
            step.add("pose", motion.regulariser, self.config.pose.regularise)
        if motion.from_aid < 1 and loss.scale > 0:
            step.add("scale", terms.scale_loss(depth, self.start_depth), loss.scale * (1 - motion.from_aid))
        step.scalars |= {"pose/from_aid": motion.from_aid, "depth/spread": depth.detach().log().std()}
        step.scalars["depth/median"] = depth.detach().median()
        step.maps |= {"input": batch.augmented[:, 0], "depth": depth.detach()}
        return step

    def _depths(self, net: DepthNet, image: Tensor) -> list[Tensor]:
        config, loss = net.config, self.config.loss
        wanted = net.decoder.SCALES if loss.successive_scale > 0 else loss.photometric_scales
        sigmas = net(image.contiguous(memory_format=torch.channels_last), wanted)
        return [disparity_to_depth(s, config.min_depth, config.max_depth).contiguous() for s in sigmas]

    def _look(self, student: DepthNet, batch: Batch, depth: Tensor, motion: EgoMotion) -> Views:
        """Views of the target, and how well the sources' own depth fits them."""
        sources, loss = batch.augmented[:, 1:], self.config.loss
        views = [seen_from(depth, m, batch) for m in motion.motions.unbind(1)]
        misfit = torch.zeros_like(depth)
        if not (loss.geometry > 0 or loss.moving_weight or loss.pseudo > 0):
            return Views(views, [], misfit)
        with torch.set_grad_enabled(loss.source_gradient and torch.is_grad_enabled()):
            images = sources.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            own = list(student.depth(images).reshape(*sources.shape[:2], *depth.shape[1:]).unbind(1))
        with torch.no_grad():
            misfits = [
                terms.depth_difference(v.computed_depth, sample(d, v)).masked_fill(~v.valid, torch.inf)
                for d, v in zip(own, views, strict=True)
            ]
            misfit = torch.stack(misfits).amin(0)
        return Views(views, own, misfit.masked_fill(torch.isinf(misfit), 0.0))

    def _self_supervise(
        self,
        step: Step,
        batch: Batch,
        depths: list[Tensor],
        motion: EgoMotion,
        seen: Views,
        filtered: MaskResult | None,
        geometry: float,
        hold: bool,
    ) -> Tensor:
        """Add the terms that need no teacher.

        Args:
            geometry: weight of the geometry term.
            hold: whether stationary regions are left to the teacher.

        Returns:
            These regions, `[B, 1, H, W]` bool.
        """
        loss, depth = self.config.loss, depths[0]
        held = torch.zeros_like(depth, dtype=torch.bool)
        target, sources = batch.frames[:, 0], list(batch.frames[:, 1:].unbind(1))
        weight = 1 - seen.misfit if loss.moving_weight else torch.ones_like(depth)
        if filtered is not None:
            weight = weight * ~filtered.dynamic
        if loss.photometric > 0:
            results = []
            for scale in range(loss.photometric_scales):
                views = seen.views
                if scale > 0:
                    full = F.interpolate(depths[scale], depth.shape[2:], mode="bilinear", align_corners=False)
                    views = [seen_from(full, m, batch) for m in motion.motions.unbind(1)]
                made = [sample(source, view) for source, view in zip(sources, views, strict=True)]
                valid = [view.valid for view in views]
                first = scale == 0
                results.append(
                    terms.photometric_loss(target, made, sources, valid, weight, loss.auto_mask, hold and first)
                )
                if first:
                    step.maps |= {"reprojection": made[-1].detach(), "photometric_mask": results[0].mask}
                    held = results[0].stationary
                    weight = weight * ~held
            step.add("photometric", torch.stack([r.loss for r in results]).mean(), loss.photometric)
            step.scalars["photometric/seen"] = results[0].mask.float().mean()
        if geometry > 0:
            placed = step.maps.get("photometric_mask", torch.ones_like(depth, dtype=torch.bool))
            step.add("geometry", self._geometry(batch, depth, motion, seen, placed), geometry)
        if loss.smoothness > 0:
            step.add("smoothness", terms.smoothness_loss(depth, target), loss.smoothness)
        if loss.sparse > 0 and (batch.inverse_depth > 0).any():
            moving = filtered.moving if filtered is not None else None
            points = zip(*(x.unbind(1) for x in (batch.pixels, batch.inverse_depth, motion.scale)), strict=True)
            values = [terms.sparse_loss(depth, at, inverse, scale, moving) for at, inverse, scale in points]
            step.add("sparse", torch.stack(values).mean(), loss.sparse)
        return held

    def _geometry(self, batch: Batch, depth: Tensor, motion: EgoMotion, seen: Views, placed: Tensor) -> Tensor:
        """Depth consistency, which moves no whole image: depths at infinity always agree, and that is not the answer.

        Args:
            placed: see `geometry_loss`.
        """
        counted = placed & torch.stack([view.valid for view in seen.views]).any(0)
        settled = terms.settled(depth, counted)
        values = []
        for source, (own, transform) in enumerate(zip(seen.own, motion.motions.unbind(1), strict=True)):
            view = seen_from(settled, transform, batch)
            if self.config.loss.source_gradient:
                own = terms.settled(own, torch.ones_like(counted))
            values.append(terms.geometry_loss(view.computed_depth, sample(own, view), seen.views[source].valid, placed))
        return torch.stack(values).mean()

    @torch.no_grad()
    def _filter(self, batch: Batch, motion: EgoMotion, teaching: TeacherViews) -> MaskResult:
        return filter_mask(
            self.config.mask,
            batch.frames[:, 0],
            batch.frames[:, 1:].unbind(1),
            motion.motions.unbind(1),
            batch.intrinsics,
            teaching,
        )

    def _distill(
        self,
        step: Step,
        depth: Tensor,
        teaching: TeacherViews,
        filtered: MaskResult | None,
        mask: Tensor,
        weight: float,
    ) -> None:
        confidence = None
        if filtered is not None:
            # Dynamic-reliable pixels have no votes by nature: there the teacher's agreement with itself has to do.
            mask = mask & (filtered.mask | filtered.dynamic)
            confidence = torch.where(filtered.mask, 0.5 + 0.5 * filtered.confidence, 0.5)
            step.scalars |= {f"mask/{name}": share for name, share in filtered.gates.items()}
            step.maps |= {"mask": filtered.mask, "moving": filtered.moving, "dynamic": filtered.dynamic}
        step.add("distill", terms.distillation_loss(depth, teaching.depth, mask, confidence), weight)
        step.maps["teacher"] = teaching.depth

    def _pseudo(
        self,
        step: Step,
        batch: Batch,
        depth: Tensor,
        motions: Tensor,
        seen: Views,
        filtered: MaskResult | None,
        epoch: float,
    ) -> None:
        pseudo = batch.pseudo
        assert pseudo is not None
        moving = filtered.moving if filtered is not None else seen.misfit >= self.config.loss.static_difference
        moving = moving & batch.inside
        self._pseudo_static(step, batch, depth, pseudo, ~moving & batch.inside, motions, self.static_weight[epoch])
        self._pseudo_dynamic(step, batch, depth, pseudo, moving, self.dynamic_weight[epoch])
        step.maps["pseudo"] = pseudo
        step.scalars |= {"pseudo/weight": self.static_weight[epoch], "pseudo/dynamic": self.dynamic_weight[epoch]}

    def _pseudo_static(
        self,
        step: Step,
        batch: Batch,
        depth: Tensor,
        pseudo: Tensor,
        static: Tensor,
        motions: Tensor,
        weight: float,
    ) -> None:
        loss, convention, lens = self.config.loss, self.convention, batch.intrinsics
        step.add("pseudo_static", terms.pseudo_static_loss(depth, pseudo, static, convention), weight)
        if loss.pseudo_contrast > 0:
            target, *sources = batch.frames.unbind(1)
            wanted = motion_contrast(pseudo, depth, static, target, sources, motions.unbind(1), lens, convention)
            value = contrast_loss(depth, wanted, static, convention)
            step.add("pseudo_contrast", value, weight * loss.pseudo_contrast)
            step.scalars["pseudo/contrast"] = wanted.mean()
        if loss.pseudo_normals > 0:
            value = terms.normal_loss(depth, pseudo, static, lens, convention)
            step.add("pseudo_normals", value, weight * loss.pseudo_normals)

    def _pseudo_dynamic(
        self, step: Step, batch: Batch, depth: Tensor, pseudo: Tensor, moving: Tensor, weight: float
    ) -> None:
        loss, convention, lens = self.config.loss, self.convention, batch.intrinsics

        def ranking(i: slice, draw: torch.Generator) -> Tensor:
            return terms.ranking_loss(depth[i], pseudo[i], moving[i], convention, generator=draw)

        def edges(i: slice, draw: torch.Generator) -> Tensor:
            return terms.edge_normal_loss(depth[i], pseudo[i], moving[i], lens[i], convention, generator=draw)

        if loss.pseudo_ranking > 0:
            step.add("pseudo_ranking", self._drawn(batch, ranking), weight * loss.pseudo_ranking)
        if loss.pseudo_edges > 0:
            step.add("pseudo_edges", self._drawn(batch, edges), weight * loss.pseudo_edges)

    def _drawn(self, batch: Batch, term: Callable[[slice, torch.Generator], Tensor]) -> Tensor:
        """Mean over the images of a term that draws at random, each with a generator of its own.

        Seeded by the number of the sample: resumed, or in another process, the same pairs are drawn for it.
        """
        seed = self.config.run.seed * 1_000_003
        values = [
            term(slice(i, i + 1), torch.Generator().manual_seed(seed + number))
            for i, number in enumerate(batch.number.tolist())
        ]
        return torch.stack(values).mean()
