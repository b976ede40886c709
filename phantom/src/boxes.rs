//! Where the findings of a scene are in its picture.

use crate::facts::HeartFact;
use crate::finding::{Finding, Kind, Severity, Side};
use crate::organs::LungRow;
use crate::scene::Scene;
use crate::shapes::Bounds;
use crate::technique::Grid;

/// Cells along an edge of the grid on which the extent of pleural findings is measured.
const SURVEY: usize = 128;
/// Millimetres of lung exchanged for air or water at which the eye begins to see it.
const SEEN: f32 = 2.0;

impl Scene {
    /// The findings with their boxes in a picture of `size` pixels, in the order of the impression.
    pub(crate) fn findings(&self, size: usize) -> Vec<Finding> {
        let grid = Grid::new(size, self.technique.field);
        let mut found = self.pleural();
        found.extend(self.in_the_lungs());
        if let HeartFact::Enlarged(severity) = self.facts.heart {
            let mut finding = Finding::new(Kind::Cardiomegaly);
            finding.severity = Some(severity);
            found.push((finding, self.heart_bounds()));
        }
        for hardware in &self.hardware {
            let mut finding = Finding::new(Kind::Device);
            finding.side = hardware.fact.side;
            finding.device = Some(hardware.fact.device);
            finding.tip = hardware.fact.tip;
            found.push((finding, hardware.bounds()));
        }
        found.into_iter().map(|(finding, bounds)| Finding { bbox: bounds.pixels(&grid), ..finding }).collect()
    }

    fn in_the_lungs(&self) -> Vec<(Finding, Bounds)> {
        let placed = |kind, side, zone| {
            let mut finding = Finding::new(kind);
            finding.side = Some(side);
            finding.zone = Some(zone);
            finding
        };
        let mut found = Vec::new();
        if let Some((fact, area)) = &self.lesions.consolidation {
            let mut finding = placed(Kind::Consolidation, fact.side, fact.zone);
            finding.severity = Some(fact.severity);
            found.push((finding, area.bounds()));
        }
        for (fact, cloud) in &self.lesions.nodules {
            let mut finding = placed(Kind::Nodule, fact.side, fact.zone);
            finding.size_mm = Some(fact.size_mm as f32);
            found.push((finding, Bounds::around(cloud.centre, cloud.half)));
        }
        if let Some((fact, group)) = &self.lesions.atelectasis {
            found.push((placed(Kind::Atelectasis, fact.side, fact.zone), group.bounds()));
        }
        found
    }

    fn heart_bounds(&self) -> Bounds {
        self.organs.heart.iter().fold(Bounds::EMPTY, |bounds, body| {
            let scale = self.camera.magnification(body.centre[2]);
            let (x, y) = body.extent();
            bounds.join(Bounds::around(self.camera.project(body.centre), (x * scale, y * scale)))
        })
    }

    /// Pneumothorax and effusions, measured on the rays themselves.
    fn pleural(&self) -> Vec<(Finding, Bounds)> {
        let new = |kind, side, severity: Severity| {
            let mut finding = Finding::new(kind);
            finding.side = Some(side);
            finding.severity = Some(severity);
            (finding, Bounds::EMPTY)
        };
        let air = self.facts.pneumothorax.map(|(side, severity)| new(Kind::Pneumothorax, side, severity));
        let fluid = Side::BOTH.into_iter().filter_map(|side| {
            self.facts.effusions[side as usize].map(|severity| new(Kind::PleuralEffusion, side, severity))
        });
        let mut found: Vec<_> = air.into_iter().chain(fluid).collect();
        if found.is_empty() {
            return found;
        }
        let grid = Grid::new(SURVEY, self.technique.field);
        let half = 0.5 * grid.spacing;
        let midline = grid.index(self.camera.project([0.0, 40.0, 0.0]).0);
        let midline = midline.clamp(0.0, SURVEY as f32) as usize;
        let mut row = LungRow::new(SURVEY);
        for j in 0..SURVEY {
            let v = grid.centre(j);
            self.organs.trace(&self.camera, v, grid.centre(0), grid.spacing, &mut row);
            for (finding, bounds) in &mut found {
                let lengths = if finding.kind == Kind::Pneumothorax { &row.air } else { &row.fluid };
                let columns = if finding.side == Some(Side::Right) { 0..midline } else { midline..SURVEY };
                for i in columns.filter(|i| lengths[*i] > SEEN) {
                    *bounds = bounds.join(Bounds::around((grid.centre(i), v), (half, half)));
                }
            }
        }
        found
    }
}
