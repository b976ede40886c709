//! The line integral of attenuation to every pixel (Beer-Lambert): the picture before the detector.

use crate::exposure::mottle;
use crate::organs::LungRow;
use crate::scene::{Backdrop, Scene};
use crate::shapes::{Group, Plane};
use crate::technique::Grid;

/// Soft tissue at the beam's effective energy, per mm (NIST XCOM at about 65 keV).
const SOFT: f32 = 0.0196;
/// Share of the lung's depth that vessels and consolidation may take.
const FILLED: f32 = 0.88;

/// Attenuation of every ray of a square picture of `size` pixels.
pub(crate) fn attenuation(scene: &Scene, backdrop: &Backdrop, size: usize) -> Plane {
    let grid = Grid::new(size, scene.technique.field);
    let mut layer = Plane::new(grid);
    let interior = interior(scene, backdrop, grid, &mut layer);
    let mut plane = Plane::new(grid);
    dense(scene, backdrop, &mut plane, &mut layer);
    let lung = scene.anatomy.lung_density;
    let mut row = LungRow::new(size);
    for (j, values) in plane.data.chunks_exact_mut(size).enumerate() {
        let v = grid.centre(j);
        scene.organs.trace(&scene.camera, v, grid.centre(0), grid.spacing, &mut row);
        torso(scene, v, &grid, values);
        let inside = &interior.data[j * size..(j + 1) * size];
        for i in 0..size {
            let aerated = row.aerated[i];
            let filled = (inside[i] + row.pleura[i]).min(FILLED * aerated);
            values[i] += (SOFT - lung) * (filled - aerated) - SOFT * row.air[i];
            values[i] = values[i].max(0.0);
        }
    }
    plane
}

/// Adds the trunk's soft tissue to a row.
fn torso(scene: &Scene, v: f32, grid: &Grid, values: &mut [f32]) {
    let row = scene.camera.row(0.0, v, grid.centre(0), grid.spacing);
    let section = scene.organs.outlines.torso(row.y);
    let scale = 1.0 / section.half;
    for (i, value) in values.iter_mut().enumerate() {
        let u = (row.start + row.step * i as f32) * scale;
        *value += SOFT * 2.0 * section.depth * (1.0 - u * u * u * u).max(0.0).sqrt();
    }
}

/// Millimetres of soft tissue that stand in the lungs.
fn interior(scene: &Scene, backdrop: &Backdrop, grid: Grid, layer: &mut Plane) -> Plane {
    let mut plane = Plane::new(grid);
    for tree in &backdrop.vessels.trees {
        plane.add_group(tree, 1.0, layer);
    }
    for cloud in &backdrop.vessels.clouds {
        plane.add_cloud(cloud, |_, _| 1.0);
    }
    if let Some((_, placed)) = &scene.lesions.consolidation {
        for cloud in &placed.clouds {
            plane.add_cloud(cloud, |u, v| mottle(placed.texture, 9.0, u, v));
        }
    }
    if let Some((_, group)) = &scene.lesions.atelectasis {
        plane.add_group(group, 1.0, layer);
    }
    plane
}

/// Attenuation of what is drawn whether or not there is lung around it.
fn dense(scene: &Scene, backdrop: &Backdrop, plane: &mut Plane, layer: &mut Plane) {
    let mut add = |plane: &mut Plane, group: &Group, scale: f32| plane.add_group(group, scale, layer);
    for group in &backdrop.skeleton.groups {
        add(plane, group, 1.0);
    }
    add(plane, &backdrop.airways, -SOFT);
    for hardware in &scene.hardware {
        for group in &hardware.groups {
            add(plane, group, 1.0);
        }
    }
    add(plane, &scene.letters, 1.0);
    let blocks = scene.hardware.iter().flat_map(|h| &h.blocks);
    for block in backdrop.skeleton.blocks.iter().chain(blocks) {
        plane.add_block(block);
    }
    for cloud in &backdrop.clouds {
        let mut cloud = *cloud;
        cloud.peak *= SOFT;
        plane.add_cloud(&cloud, |_, _| 1.0);
    }
    for (_, cloud) in &scene.lesions.nodules {
        plane.add_cloud(cloud, |_, _| 1.0);
    }
}
