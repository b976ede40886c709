//! Comparing an operation with its reference, and its gradients with finite differences of the reference.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};

/// A splitmix64 sequence.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From −2 to 2, a value that `f32` holds exactly.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 22) as f32 - 2.0
    }

    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.value()).collect();
        Tensor::from_vec(values, Shape::from_dims(shape), &Device::Cpu)
    }
}

/// Random inputs of an operation.
pub(crate) struct Case {
    seed: u64,
    shapes: Vec<Vec<usize>>,
    tolerance: f64,
    scale: f64,
}

/// Coordinates of each input whose derivative is checked by differences.
const COORDINATES: usize = if cfg!(miri) { 1 } else { 24 };

impl Case {
    pub(crate) fn new(seed: u64, shapes: &[&[usize]]) -> Self {
        // 50 rounding errors of f32 on values of O(1): sums here have at most some hundred terms.
        Self { seed, shapes: shapes.iter().map(|s| s.to_vec()).collect(), tolerance: 3e-6 * 10.0, scale: 1.0 }
    }

    /// Of values, and of gradients, relative where they are above 1.
    pub(crate) fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Multiplies the inputs.
    pub(crate) fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    pub(crate) fn tensors(&self) -> Result<Vec<Tensor>> {
        let mut rng = Rng::new(self.seed);
        self.shapes.iter().map(|shape| rng.tensor(shape)? * self.scale).collect()
    }

    /// `fused` against `reference`: the value, and the gradient of a random linear function of it.
    pub(crate) fn check(
        &self,
        fused: impl Fn(&[Tensor]) -> Result<Tensor>,
        reference: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) {
        self.compare(fused, reference).expect("operations run");
    }

    fn compare(
        &self,
        fused: impl Fn(&[Tensor]) -> Result<Tensor>,
        reference: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<()> {
        let vars: Vec<Var> = self.tensors()?.iter().map(Var::from_tensor).collect::<Result<_>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let exact: Vec<Tensor> =
            self.tensors()?.iter().map(|x| x.to_dtype(DType::F64)).collect::<Result<_>>()?;
        let (y, expected) = (fused(&inputs)?, reference(&exact)?);
        assert_eq!(y.shape(), expected.shape());
        self.close("value", &values(&y)?, &values(&expected)?);

        let weights = Rng::new(!self.seed).tensor(y.dims())?;
        let grads = (&y * &weights)?.sum_all()?.backward()?;
        let weights = weights.to_dtype(DType::F64)?;
        let loss = |x: &[Tensor]| (reference(x)? * &weights)?.sum_all()?.to_scalar::<f64>();
        for (i, var) in vars.iter().enumerate() {
            let grad = grads.get(var).expect("a gradient for each input");
            assert_eq!(grad.shape(), var.shape());
            let (at, slopes) = self.slopes(&exact, i, &loss)?;
            let grad = values(grad)?;
            let grad: Vec<f64> = at.iter().map(|&at| grad[at]).collect();
            self.close(&format!("gradient of input {i}"), &grad, &slopes);
        }
        Ok(())
    }

    /// Central differences of `loss` at some coordinates of input `i`.
    fn slopes(
        &self,
        inputs: &[Tensor],
        i: usize,
        loss: &dyn Fn(&[Tensor]) -> Result<f64>,
    ) -> Result<(Vec<usize>, Vec<f64>)> {
        // In f64 the error is about h² from the curve and 1e-16 / h from rounding, both far below the tolerance.
        let h = 1e-5 * self.scale;
        let x = inputs[i].flatten_all()?.to_vec1::<f64>()?;
        let mut rng = Rng::new(self.seed ^ i as u64);
        let at: Vec<usize> = if x.len() <= COORDINATES {
            (0..x.len()).collect()
        } else {
            (0..COORDINATES).map(|_| rng.below(x.len())).collect()
        };
        let shifted = |at: usize, by: f64| -> Result<f64> {
            let mut x = x.clone();
            x[at] += by;
            let mut inputs = inputs.to_vec();
            inputs[i] = Tensor::from_vec(x, inputs[i].shape(), &Device::Cpu)?;
            loss(&inputs)
        };
        let slopes = at.iter().map(|&at| Ok((shifted(at, h)? - shifted(at, -h)?) / (2.0 * h)));
        let slopes = slopes.collect::<Result<_>>()?;
        Ok((at, slopes))
    }

    fn close(&self, what: &str, values: &[f64], expected: &[f64]) {
        assert_eq!(values.len(), expected.len());
        for (i, (x, y)) in values.iter().zip(expected).enumerate() {
            assert!((x - y).abs() <= self.tolerance * y.abs().max(1.0), "{what} at {i}: {x}, expected {y}");
        }
    }
}

fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// The result of `operation` and its gradients, bit for bit, in pools of one and of three threads.
pub(crate) fn same_on_any_pool(shapes: &[&[usize]], operation: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    let run = || -> Result<Vec<Vec<u32>>> {
        let vars: Vec<Var> =
            Case::new(3, shapes).tensors()?.iter().map(Var::from_tensor).collect::<Result<_>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = operation(&inputs)?;
        let grads = (&y * Rng::new(4).tensor(y.dims())?)?.sum_all()?.backward()?;
        let mut all = vec![bits(&y)?];
        for var in &vars {
            all.push(bits(grads.get(var).expect("a gradient"))?);
        }
        Ok(all)
    };
    let results: Vec<_> = [1, 3]
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(run).expect("operations run")
        })
        .into();
    assert!(results[0] == results[1], "the number of threads shows");
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    Ok(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}
