//! The matrices of layers: in memory, or left where they are stored until they are packed.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::{Init, Result, TensorSource};

/// A weight of a layer: a tensor in memory, or a constant that its source gives whenever it is asked.
///
/// Layers pack constants for the fused operations. Of a stored one they keep nothing else: `f32` beside what is packed would be two
/// thirds of a model's memory and more.
#[derive(Clone)]
pub struct Parameter(Arc<Description>);

struct Description {
    shape: Vec<usize>,
    place: Place,
    /// Where it is used.
    device: Device,
}

enum Place {
    Memory(Tensor),
    Stored {
        source: Arc<dyn TensorSource>,
        name: String,
        init: Init,
    },
    /// One below the other.
    Joined(Vec<Parameter>),
}

impl Parameter {
    fn new(shape: &[usize], place: Place, device: &Device) -> Self {
        Self(Arc::new(Description { shape: shape.to_vec(), place, device: device.clone() }))
    }

    /// A tensor of `source`, which [is lasting](TensorSource::is_lasting), for use on `device`; it is checked and not yet read.
    pub(crate) fn stored(
        source: &Arc<dyn TensorSource>,
        name: String,
        (shape, init): (&[usize], Init),
        device: &Device,
    ) -> Result<Self> {
        source.check(&name, shape)?;
        let source = Arc::clone(source);
        Ok(Self::new(shape, Place::Stored { source, name, init }, device))
    }

    /// Parameters one below the other (joined over their first dimension), as a parameter of this shape.
    pub fn joined(parts: Vec<Self>, shape: &[usize]) -> Result<Self> {
        // What is in memory takes no more room as one tensor, and reading it is then free.
        let in_memory = parts.iter().all(|part| matches!(part.0.place, Place::Memory(_)));
        let device = parts.first().map_or(Device::Cpu, |part| part.device().clone());
        let joined = Self::new(shape, Place::Joined(parts), &device);
        if in_memory { Ok(joined.tensor()?.into()) } else { Ok(joined) }
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.0.shape
    }

    /// Its values as `f32` where it is used: those in memory, or new memory for those that are stored.
    pub fn tensor(&self) -> Result<Tensor> {
        self.read(Self::tensor)?.to_device(self.device()).map_err(Into::into)
    }

    /// Its values as `f32` in main memory, to be laid out for operations.
    pub(crate) fn on_host(&self) -> Result<Tensor> {
        self.read(Self::on_host)?.to_device(&Device::Cpu).map_err(Into::into)
    }

    fn read(&self, part: fn(&Self) -> Result<Tensor>) -> Result<Tensor> {
        match &self.0.place {
            Place::Memory(tensor) => Ok(tensor.clone()),
            Place::Stored { source, name, init } => source.tensor(name, self.dims(), *init),
            Place::Joined(parts) => {
                let parts = parts.iter().map(part).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::cat(&parts, 0)?.reshape(self.dims())?)
            }
        }
    }

    /// Whether its gradient is wanted.
    pub fn is_trained(&self) -> bool {
        match &self.0.place {
            Place::Memory(tensor) => tensor.track_op(),
            Place::Stored { .. } => false,
            Place::Joined(parts) => parts.iter().any(Self::is_trained),
        }
    }

    /// Where it is used.
    pub fn device(&self) -> &Device {
        &self.0.device
    }
}

impl From<Tensor> for Parameter {
    fn from(tensor: Tensor) -> Self {
        let (shape, device) = (tensor.dims().to_vec(), tensor.device().clone());
        Self::new(&shape, Place::Memory(tensor), &device)
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.0.place {
            Place::Memory(_) => "in memory",
            Place::Stored { name, .. } => name,
            Place::Joined(_) => "joined",
        };
        write!(f, "Parameter({:?}, {place})", self.dims())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use candle_core::{Device, Var};

    use super::*;
    use crate::layers::{Experts, Linear};
    use crate::weights::fits;
    use crate::{Error, Precision, Weights};

    /// Gives the same tensors again and again, and counts.
    struct Shelf {
        lasting: bool,
        read: AtomicUsize,
    }

    impl TensorSource for Shelf {
        fn tensor(&self, name: &str, shape: &[usize], _: Init) -> Result<Tensor> {
            self.read.fetch_add(1, Ordering::Relaxed);
            let (count, seed) = (shape.iter().product::<usize>(), name.len());
            let values: Vec<f32> =
                (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5).collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }

        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            name.ends_with("weight").then(|| vec![40, 64])
        }

        fn is_lasting(&self) -> bool {
            self.lasting
        }

        fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
            if name.ends_with("weight") { fits(name, shape, self.shape(name)) } else { Ok(()) }
        }
    }

    fn shelf(lasting: bool) -> Arc<Shelf> {
        Arc::new(Shelf { lasting, read: AtomicUsize::new(0) })
    }

    fn weights(shelf: &Arc<Shelf>, precision: Precision) -> Weights {
        Weights::new(Arc::clone(shelf) as Arc<dyn TensorSource>, precision)
    }

    fn input(shape: &[usize]) -> Tensor {
        shelf(false).tensor("input", shape, Init::Const(0.0)).expect("a tensor")
    }

    const PRECISIONS: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4];

    /// The values that `layer` of such a source computes, and what it read when it was made and in two passes.
    fn pass(
        lasting: bool,
        precision: Precision,
        layer: impl Fn(&Weights) -> Result<Box<dyn Fn() -> Result<Tensor>>>,
    ) -> (Vec<f32>, [usize; 2]) {
        let shelf = shelf(lasting);
        let read = || shelf.read.swap(0, Ordering::Relaxed);
        let forward = layer(&weights(&shelf, precision)).expect("a layer");
        let made = read();
        let first = forward().expect("a pass").flatten_all().expect("flat").to_vec1().expect("values");
        let again: Vec<f32> =
            forward().expect("a pass").flatten_all().expect("flat").to_vec1().expect("values");
        assert_eq!(first, again);
        (first, [made, read()])
    }

    #[test]
    fn stored_weights_are_read_once_and_give_the_same_bits() {
        for precision in PRECISIONS {
            let linear = |w: &Weights| -> Result<Box<dyn Fn() -> Result<Tensor>>> {
                let layer = Linear::no_bias(64, 40, &w.pp("proj"))?;
                Ok(Box::new(move || layer.forward(&input(&[3, 64]))))
            };
            let experts = |w: &Weights| -> Result<Box<dyn Fn() -> Result<Tensor>>> {
                let part = |shape: &[usize], name: &str| w.parameter(shape, name, Init::Const(0.0));
                let gate_up = Parameter::joined(
                    vec![part(&[32, 16], "a")?, part(&[32, 16], "bb")?, part(&[64, 16], "ccc")?],
                    &[2, 64, 16],
                )?;
                let layer = Experts::from_parts(gate_up, part(&[2, 16, 32], "down")?, w.precision())?;
                let x = input(&[3, 16]);
                let shares = Tensor::ones((3, 1), candle_core::DType::F32, &Device::Cpu)?;
                Ok(Box::new(move || layer.forward(&x, (&[0, 1, 1], &shares), None)))
            };
            // Weights that are multiplied in `f32` are needed again and again.
            let expected = |parts: usize| if precision == Precision::F32 { [parts, 0] } else { [0, parts] };
            let (kept, _) = pass(false, precision, linear);
            let (stored, reads) = pass(true, precision, linear);
            assert_eq!((stored, reads), (kept, expected(1)), "{precision:?}");
            let (kept, _) = pass(false, precision, experts);
            let (stored, reads) = pass(true, precision, experts);
            assert_eq!((stored, reads), (kept, expected(4)), "experts, {precision:?}");
        }
    }

    #[test]
    fn joined_projections_read_their_parts() -> Result<()> {
        for precision in [Precision::Bf16, Precision::Int8] {
            let joined = |lasting: bool| {
                let w = weights(&shelf(lasting), precision);
                let parts = [Linear::no_bias(64, 40, &w.pp("q"))?, Linear::new(64, 40, &w.pp("key"))?];
                let joined = Linear::joined(&parts.each_ref())?.expect("constants");
                let y = joined.forward(&input(&[2, 64]))?;
                assert_eq!(y.dims(), [2, 80]);
                Ok::<_, Error>(y.to_vec2::<f32>()?)
            };
            assert_eq!(joined(true)?, joined(false)?);
        }
        Ok(())
    }

    #[test]
    fn gradients_pass_through_stored_weights() -> Result<()> {
        let slope = |lasting: bool| {
            let layer = Linear::no_bias(64, 40, &weights(&shelf(lasting), Precision::Bf16))?;
            let x = Var::from_tensor(&input(&[2, 64]))?;
            let grads = layer.forward(x.as_tensor())?.sqr()?.sum_all()?.backward()?;
            Ok::<_, Error>(grads.get(&x).expect("a gradient").to_vec2::<f32>()?)
        };
        assert_eq!(slope(true)?, slope(false)?);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_read() {
        let shelf = shelf(true);
        let error = Linear::no_bias(63, 40, &weights(&shelf, Precision::Bf16)).expect_err("another shape");
        assert!(matches!(&error, Error::Shape { name, expected, found }
            if name == "weight" && *expected == [40, 63] && *found == [40, 64]));
        assert_eq!(shelf.read.load(Ordering::Relaxed), 0);
    }
}
