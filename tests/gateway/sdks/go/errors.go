// Functions whose steps or code fail, and functions that call others.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

var (
	once  = Options{Retries: pointer(0)}
	twice = Options{Retries: pointer(1)}
)

func defineErrors() {
	define("retried-step", Options{}, func(ctx context.Context, input Input) (any, error) {
		return step.Run(ctx, "flaky", func(context.Context) (int, error) {
			calls := count("retried-step", input.InputCtx.RunID)
			if calls < 3 {
				return 0, again(errors.New("again"))
			}
			return calls, nil
		})
	})

	define("retried-function", Options{}, func(ctx context.Context, input Input) (any, error) {
		first := run(ctx, "first", "first")
		if input.InputCtx.Attempt == 0 {
			return nil, again(errors.New("again"))
		}
		return []any{first, input.InputCtx.Attempt}, nil
	})

	define("default-back-off", twice, func(ctx context.Context, input Input) (any, error) {
		return step.Run(ctx, "flaky", func(context.Context) (int, error) {
			calls := count("default-back-off", input.InputCtx.RunID)
			if calls < 2 {
				return 0, errors.New("no reason")
			}
			return calls, nil
		})
	})

	define("exhausted-step", twice, func(ctx context.Context, input Input) (any, error) {
		return step.Run(ctx, "broken", func(context.Context) (any, error) {
			return nil, again(fmt.Errorf("call %d", count("exhausted-step", input.InputCtx.RunID)))
		})
	})

	define("exhausted-function", twice, func(_ context.Context, input Input) (any, error) {
		return nil, again(fmt.Errorf("attempt %d", input.InputCtx.Attempt))
	})

	define("step-error-caught", once, func(ctx context.Context, _ Input) (any, error) {
		_, err := step.Run(ctx, "broken", func(context.Context) (any, error) { return nil, errors.New("no number") })
		return []any{errors.Is(err, inngestgo.StepError{}), err.Error(), run(ctx, "after", "after")}, nil
	})

	define("non-retriable-step", Options{}, func(ctx context.Context, input Input) (any, error) {
		return step.Run(ctx, "refuse", func(context.Context) (any, error) {
			return nil, inngestgo.NoRetryError(fmt.Errorf("call %d", count("non-retriable-step", input.InputCtx.RunID)))
		})
	})

	define("non-retriable-function", Options{}, func(_ context.Context, input Input) (any, error) {
		return nil, inngestgo.NoRetryError(fmt.Errorf("attempt %d", input.InputCtx.Attempt))
	})

	failing := define("on-failure", once, func(context.Context, Input) (any, error) { return nil, errors.New("broken") })

	// This SDK has no handlers of failures; an event starts the function that they would be.
	condition := fmt.Sprintf("event.data.function_id == '%s'", failing)
	add("on-failure-failure", "inngest/function.failed", &condition, Options{},
		func(ctx context.Context, input Input) (any, error) {
			data := input.Event.Data
			message := run(ctx, "note", data["error"].(Data)["message"])
			return []any{message, data["function_id"], data["event"].(Data)["data"]}, nil
		})

	defineCalls()
}

func defineCalls() {
	callee := define("callee", Options{}, func(ctx context.Context, input Input) (any, error) {
		return run(ctx, "double", input.Event.Data["x"].(float64)*2), nil
	})

	refuses := define("refuses", Options{}, func(context.Context, Input) (any, error) {
		return nil, inngestgo.NoRetryError(errors.New("no use"))
	})

	slow := define("slow", Options{}, func(ctx context.Context, _ Input) (any, error) {
		step.Sleep(ctx, "nap", 4*time.Second)
		return "slow", nil
	})

	defineCall("invoke", Options{}, step.InvokeOpts{FunctionId: callee, Data: Data{"x": 21}}, uncaught)
	defineCall("invoke-error", Options{}, step.InvokeOpts{FunctionId: refuses}, func(_ any, err error) (any, error) {
		return err.Error(), nil
	})
	defineCall("invoke-uncaught", Options{}, step.InvokeOpts{FunctionId: refuses}, uncaught)
	defineCall("invoke-timeout", once, step.InvokeOpts{FunctionId: slow, Timeout: time.Second}, caught)
	defineCall("invoke-unknown", once, step.InvokeOpts{FunctionId: app + "-missing"}, caught)
	foreign := step.InvokeOpts{FunctionId: os.Getenv("FOREIGN") + "-foreign", Data: Data{"from": app}}
	defineCall("invoke-foreign", Options{}, foreign, uncaught)

	define("foreign", Options{}, func(_ context.Context, input Input) (any, error) {
		return []any{"served", len(input.Event.Data["from"].(string)) > 0}, nil
	})
}

// defineCall defines a function that invokes another one, and returns what `then` makes of its result.
func defineCall(id string, options Options, call step.InvokeOpts, then func(any, error) (any, error)) {
	define(id, options, func(ctx context.Context, _ Input) (any, error) {
		return then(step.Invoke[any](ctx, "call", call))
	})
}

func uncaught(result any, err error) (any, error) { return result, err }

func caught(_ any, err error) (any, error) { return []any{"caught", err != nil}, nil }
