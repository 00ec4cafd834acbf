//! Stops a query that would not stop by itself.
//!
//! DataFusion's tasks yield between batches, but a join that finds no match makes no batch: it can compare for
//! hours within one step, where neither a time limit nor a reader that went away is seen. So joins yield after
//! each batch, and their filters look at a flag. Not here: the limit itself ([`crate::run`]).
//!
//! Invariants: an interruptible plan gives the rows of the plan it was made from; after [`Stop::now`] no filter of
//! a join is evaluated again.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::union::UnionExec;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that a query looks at; clones are the same flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops the query.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The same plan, whose joins yield and look at the flag.
pub(crate) fn interruptible(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Stop,
    options: &Arc<ConfigOptions>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let change = |node: Arc<dyn ExecutionPlan>| {
        if node.children().len() < 2 || node.is::<UnionExec>() {
            return Ok(Transformed::no(node));
        }
        let watched = watched(node, stop, options)?;
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(watched)) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(change).data()
}

fn watched(node: Arc<dyn ExecutionPlan>, stop: &Stop, options: &Arc<ConfigOptions>) -> Result<Arc<dyn ExecutionPlan>> {
    let watch = |filter: &JoinFilter| {
        let function = Arc::new(ScalarUDF::new_from_impl(WhileAsked::new(stop.clone())));
        let expression = ScalarFunctionExpr::try_new(
            function,
            vec![Arc::clone(filter.expression())],
            filter.schema(),
            Arc::clone(options),
        )?;
        Ok::<_, datafusion::error::DataFusionError>(JoinFilter::new(
            Arc::new(expression),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        ))
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(watch(filter)?)).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(join.builder().with_filter(Some(watch(filter)?)).build()?));
    }
    Ok(node)
}

/// Gives its argument until the flag is set.
#[derive(Debug)]
struct WhileAsked {
    signature: Signature,
    stop: Stop,
}

impl WhileAsked {
    fn new(stop: Stop) -> Self {
        Self { signature: Signature::any(1, Volatility::Volatile), stop }
    }
}

impl PartialEq for WhileAsked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stop.0, &other.stop.0)
    }
}

impl Eq for WhileAsked {}

impl Hash for WhileAsked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.stop.0).hash(state);
    }
}

impl ScalarUDFImpl for WhileAsked {
    fn name(&self) -> &str {
        "while_asked"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Boolean))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let given = arguments.arg_fields.first().map(|field| (field.data_type().clone(), field.is_nullable()));
        let (kind, nullable) = given.unwrap_or((DataType::Boolean, true));
        Ok(Arc::new(Field::new(self.name(), kind, nullable)))
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.pop() {
            Some(value) if !self.stop.is_set() => Ok(value),
            _ => exec_err!("stopped"),
        }
    }
}
