//! Attention of all kinds.

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{CudaView, DeviceRepr, PushKernelArg};
use candle_core::{DType, Result, Tensor, bail};
use half::bf16;

use super::elementwise::Number;
use super::{
    ATTENTION_COMBINE, CAUSAL_ATTENTION, Locked, MLA_DECODE, NULL, WINDOW_ATTENTION, device_of, fresh, grid,
    launch, optional, tensor,
};

/// Query rows, and keys, of a block of `causal_attention`.
const BLOCK: usize = 64;

/// Keys for which a block of its own pays, where there are few queries.
const KEYS_OF_SPLIT: usize = 256;

/// Blocks that occupy a GPU.
const ENOUGH_BLOCKS: usize = 128;

/// `Strides` of heads.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Strides([i64; 3]);

/// `Sizes` of heads.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sizes([i32; 6]);

/// `Map` of window_attention.cu: how a feature map is cut into windows. Pairs are `(rows, columns)` in tokens.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map {
    pub(crate) size: [i32; 2],
    pub(crate) window: [i32; 2],
    pub(crate) shift: [i32; 2],
    pub(crate) roll_first: i32,
    pub(crate) hidden: f32,
}

// SAFETY: plain numbers in the order of the C structs, whose members have one size each and so no padding.
unsafe impl DeviceRepr for Strides {}
// SAFETY: as above.
unsafe impl DeviceRepr for Sizes {}
// SAFETY: as above.
unsafe impl DeviceRepr for Map {}

/// A `(batch, tokens, heads, dim)` argument, rows dense.
fn heads<'a, T: CudaDType + DeviceRepr>(x: &'a Locked<'_>) -> Result<(CudaView<'a, T>, Strides)> {
    let &[batch, token, head, dim] = x.layout.stride() else {
        bail!("attention: {:?} has not four dimensions", x.layout.shape())
    };
    if dim != 1 && x.layout.dims()[3] > 1 {
        bail!("attention: rows of {:?} are not dense", x.layout.shape());
    }
    Ok((x.strided()?, Strides([batch, token, head].map(|stride| stride as i64))))
}

/// Attention without bias or mask beyond causality; `offset` as in `Mask::Causal`, `None` for all keys. Operands of `f32` are rounded to
/// `bf16`; `None` where no kernel takes heads of that size.
pub(crate) fn launch_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    offset: Option<usize>,
    scale: f32,
) -> Result<Option<Tensor>> {
    let dim = q.dim(3)?.max(v.dim(3)?);
    let even = q.dim(3)?.is_multiple_of(2) && v.dim(3)?.is_multiple_of(2);
    // Only bf16 has a kernel for the widest heads.
    let dtype = if k.dtype() == DType::F32 && v.dtype() == DType::F32 && dim <= 128 {
        DType::F32
    } else {
        DType::BF16
    };
    if !even || dim > 192 || q.elem_count() == 0 {
        return Ok(None);
    }
    let [q, k, v] = [q, k, v].map(|x| dense_rows(&x.to_dtype(dtype)?));
    let y = match dtype {
        DType::F32 => attention_of::<f32>(&q?, &k?, &v?, offset, scale)?,
        _ => attention_of::<bf16>(&q?, &k?, &v?, offset, scale)?,
    };
    Ok(Some(y.to_dtype(DType::F32)?))
}

fn dense_rows(x: &Tensor) -> Result<Tensor> {
    if x.stride()[3] == 1 { Ok(x.clone()) } else { x.contiguous() }
}

fn attention_of<T: Number>(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    offset: Option<usize>,
    scale: f32,
) -> Result<Tensor> {
    let (batch, tokens, query_heads, dim) = q.dims4()?;
    let (_, keys, kv_heads, v_dim) = v.dims4()?;
    let padded = [64, 128, 192].into_iter().find(|&padded| dim.max(v_dim) <= padded).unwrap_or(192);
    let device = device_of(q)?;
    let locked = [Locked::of(q)?, Locked::of(k)?, Locked::of(v)?];
    let ((q, q_strides), (k, k_strides), (v, v_strides)) =
        (heads::<T>(&locked[0])?, heads::<T>(&locked[1])?, heads::<T>(&locked[2])?);
    let sizes = Sizes([tokens, keys, query_heads, kv_heads, dim, v_dim].map(|size| size as i32));
    let offset = offset.map_or(i32::MAX, |offset| i32::try_from(offset).unwrap_or(i32::MAX));
    let panels = (tokens * query_heads / kv_heads).div_ceil(BLOCK);
    let shared_bytes = 3 * BLOCK * (padded + 8) * 2 + 512;
    let (rows, shape) = (batch * tokens * query_heads, (batch, tokens, query_heads, v_dim));
    let splits = if T::NAME == "bf16" && padded <= 128 { splits(batch * kv_heads * panels, keys) } else { 1 };
    let split = if splits > 1 { "_split" } else { "" };
    let name = format!("causal_attention{split}_{}_d{padded}", T::NAME);
    let function = CAUSAL_ATTENTION.kernel(&device, &name, shared_bytes)?;
    let mut arguments = function.builder();
    arguments.arg(&q).arg(&q_strides).arg(&k).arg(&k_strides).arg(&v).arg(&v_strides).arg(&NULL).arg(&NULL);
    let mut y = fresh::<T>(&device, rows * v_dim)?;
    if splits == 1 {
        arguments.arg(&mut y).arg(&sizes).arg(&offset).arg(&scale);
        // SAFETY: the contract in causal_attention.cu; sizes and strides are those of the arguments.
        unsafe { launch(arguments, grid((panels, kv_heads, batch), 128, shared_bytes)) }?;
        return Ok(tensor(y, shape, &device));
    }
    let mut partial = fresh::<f32>(&device, splits * rows * v_dim)?;
    let mut statistics = fresh::<f32>(&device, splits * rows * 2)?;
    let [count, row_count, width] = [splits, rows, v_dim].map(|size| size as i32);
    arguments.arg(&mut partial).arg(&mut statistics).arg(&sizes).arg(&offset).arg(&scale).arg(&count);
    // SAFETY: as above.
    unsafe { launch(arguments, grid((panels, kv_heads, batch * splits), 128, shared_bytes)) }?;
    let function = ATTENTION_COMBINE.kernel(&device, &format!("attention_combine_{}", T::NAME), 0)?;
    let mut arguments = function.builder();
    arguments.arg(&partial).arg(&statistics).arg(&mut y).arg(&row_count).arg(&width).arg(&count);
    // SAFETY: the contract in attention_combine.cu.
    unsafe { launch(arguments, grid((rows, 1, 1), v_dim.next_multiple_of(32).min(1024), 0)) }?;
    Ok(tensor(y, shape, &device))
}

/// Into how many parts the keys are cut: enough to occupy the GPU, none too small.
fn splits(blocks: usize, keys: usize) -> usize {
    (ENOUGH_BLOCKS / blocks.max(1)).min(keys / KEYS_OF_SPLIT).clamp(1, 32)
}

/// Whether [`latent_decode`] has a kernel for latents of `rank` and rotated keys of `rope`.
pub(crate) fn latent_fits(rank: usize, rope: usize) -> bool {
    rank.is_multiple_of(8) && rope.is_multiple_of(8) && rank <= 512 && rope <= 64
}

/// One token a sequence of latent attention in absorbed form: `q (batch, 1, heads, rank + rope)` and
/// `joined (batch, keys, 1, rank + rope)`, both in `bf16`, to latent values `(batch, 1, heads, rank)` in `f32`.
pub(crate) fn latent_decode(q: &Tensor, joined: &Tensor, rank: usize, scale: f32) -> Result<Tensor> {
    let (batch, _, heads, width) = q.dims4()?;
    let (device, keys) = (device_of(q)?, joined.dim(1)?);
    let lengths = device.clone_htod(&vec![keys as i32; batch])?;
    let (q, joined) = (q.contiguous()?, joined.contiguous()?);
    let (q, joined) = (Locked::of(&q)?, Locked::of(&joined)?);
    let (q, cache) = (q.elements::<bf16>()?, joined.elements::<bf16>()?);
    let padded = if rank <= 128 { 128 } else { 512 };
    let shared_bytes = 80 * (padded + 72) * 2 + 5696;
    let (blocks, rows) = (heads.div_ceil(16), batch * heads);
    let splits = splits(blocks * batch, keys);
    let cache_batch = (keys * width) as i64;
    let [head_count, latent, rotated] = [heads, rank, width - rank].map(|size| size as i32);
    let function = MLA_DECODE.kernel(&device, &format!("mla_decode_r{padded}"), shared_bytes)?;
    let mut y = fresh::<bf16>(&device, rows * rank)?;
    let mut partial = fresh::<f32>(&device, if splits > 1 { splits * rows * rank } else { 1 })?;
    let mut statistics = fresh::<f32>(&device, splits * rows * 2)?;
    let mut arguments = function.builder();
    arguments.arg(&q).arg(&cache).arg(&cache_batch).arg(&lengths).arg(&mut y).arg(&mut partial);
    arguments.arg(&mut statistics).arg(&head_count).arg(&latent).arg(&rotated).arg(&scale);
    // SAFETY: the contract in mla_decode.cu; a batch row of the cache is `keys` tokens.
    unsafe { launch(arguments, grid((blocks, splits, batch), 256, shared_bytes)) }?;
    if splits > 1 {
        let function = ATTENTION_COMBINE.kernel(&device, "attention_combine_bf16", 0)?;
        let [row_count, count] = [rows, splits].map(|size| size as i32);
        let mut arguments = function.builder();
        arguments.arg(&partial).arg(&statistics).arg(&mut y).arg(&row_count).arg(&latent).arg(&count);
        // SAFETY: the contract in attention_combine.cu.
        unsafe { launch(arguments, grid((rows, 1, 1), rank.next_multiple_of(32).min(1024), 0)) }?;
    }
    tensor(y, (batch, 1, heads, rank), &device).to_dtype(DType::F32)
}

/// Attention inside the windows of a map: `qkv (batch, tokens, 3, heads, dim)`, `pad (3, heads, dim)` what padding is projected to,
/// `table ((2 rows − 1)(2 columns − 1), heads)` and, for cosines, `sharpness (heads)`; to `(batch, tokens, heads · dim)`.
pub(crate) fn window_attention(
    qkv: &Tensor,
    pad: &Tensor,
    table: &Tensor,
    sharpness: Option<&Tensor>,
    map: Map,
) -> Result<Tensor> {
    let device = device_of(qkv)?;
    let &[batch, tokens, _, heads, dim] = qkv.dims() else {
        bail!("window_attention: qkv {:?} has not five dimensions", qkv.dims())
    };
    let [window_rows, window_columns] = map.window.map(|side| side as usize);
    let [windows_down, windows_across] =
        [0, 1].map(|i| (map.size[i] as usize).div_ceil(map.window[i] as usize));
    let (area, padded) = (window_rows * window_columns, if dim <= 32 { 32 } else { 64 });
    let offsets = (2 * window_rows - 1) * (2 * window_columns - 1);
    if tokens != map.size[0] as usize * map.size[1] as usize
        || table.dims() != [offsets, heads]
        || pad.elem_count() != 3 * heads * dim
        || sharpness.is_some_and(|sharpness| sharpness.elem_count() != heads)
        || dim > 64
        || dim % 2 == 1
    {
        bail!("window_attention: qkv {:?} and table {:?} do not fit {map:?}", qkv.dims(), table.dims());
    }
    let mut y = fresh::<f32>(&device, batch * tokens * heads * dim)?;
    let (qkv, pad, table) = (qkv.contiguous()?, pad.contiguous()?, table.contiguous()?);
    let sharpness = sharpness.map(Tensor::contiguous).transpose()?;
    let locked = [Locked::of(&qkv)?, Locked::of(&pad)?, Locked::of(&table)?];
    let sharpness = sharpness.as_ref().map(Locked::of).transpose()?;
    let [qkv, pad, table] = [0, 1, 2].map(|i| locked[i].elements::<f32>());
    let (qkv, pad, table) = (qkv?, pad?, table?);
    let sharpness = sharpness.as_ref().map(Locked::elements::<f32>).transpose()?;
    let shared_bytes = 3 * BLOCK * (padded + 8) * 2 + 512 + offsets * 4;
    let function =
        WINDOW_ATTENTION.kernel(&device, &format!("window_attention_f32_d{padded}"), shared_bytes)?;
    let (head_count, head_dim) = (heads as i32, dim as i32);
    let mut arguments = function.builder();
    arguments.arg(&qkv).arg(&pad).arg(&table);
    optional(&mut arguments, sharpness.as_ref());
    arguments.arg(&mut y).arg(&map).arg(&head_count).arg(&head_dim);
    let blocks = windows_down * windows_across * area.div_ceil(BLOCK);
    // SAFETY: the contract in window_attention.cu; the sizes are those that were checked.
    unsafe { launch(arguments, grid((blocks, heads, batch), 128, shared_bytes)) }?;
    Ok(tensor(y, (batch, tokens, heads * dim), &device))
}
