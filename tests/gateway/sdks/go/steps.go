// Functions whose steps succeed: each kind of step, and what the code gets from it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/inngest/inngest/pkg/enums"
	"github.com/inngest/inngestgo/group"
	"github.com/inngest/inngestgo/step"
)

const mib = 1_048_576

type branch = func(ctx context.Context) (any, error)

var nested = Data{
	"list":  []any{1, []any{2, Data{"text": "é 😀", "none": nil}}},
	"float": 1.5,
	"empty": Data{},
	"big":   9007199254740991,
}

func defineSteps() {
	define("three-steps", Options{}, func(ctx context.Context, input Input) (any, error) {
		first, second := run(ctx, "first", 1), run(ctx, "second", 2)
		third := run(ctx, "third", input.Event.Data["n"])
		return Data{"sum": first + second + int(third.(float64)), "attempt": input.InputCtx.Attempt}, nil
	})

	define("nested-data", Options{}, func(ctx context.Context, input Input) (any, error) {
		return Data{"nested": run[any](ctx, "nested", nested), "event": input.Event.Data}, nil
	})

	define("null-results", Options{}, func(ctx context.Context, _ Input) (any, error) {
		return []any{run[any](ctx, "nothing", nil), run[any](ctx, "null", nil)}, nil
	})

	define("no-result", Options{}, func(ctx context.Context, _ Input) (any, error) {
		run(ctx, "only", 1)
		return nil, nil
	})

	define("no-steps", Options{}, number)

	define("loop", Options{}, func(ctx context.Context, _ Input) (any, error) {
		squares := []int{}
		for number := range 5 {
			squares = append(squares, run(ctx, "square", number*number))
		}
		return squares, nil
	})

	define("context", Options{}, func(_ context.Context, input Input) (any, error) {
		return Data{
			"event":   input.Event.Name,
			"events":  len(input.Events),
			"attempt": input.InputCtx.Attempt,
			"run":     len(input.InputCtx.RunID),
			"id":      len(*input.Event.ID) > 0,
			"ts":      input.Event.Timestamp > 1_700_000_000_000,
		}, nil
	})

	define("large-state", Options{}, func(ctx context.Context, _ Input) (any, error) {
		sizes := []int{}
		for range 5 {
			sizes = append(sizes, len(run(ctx, "mib", strings.Repeat("x", mib))))
		}
		return sizes, nil
	})

	defineParallel()
	defineWaits()
	defineEvents()
}

func defineParallel() {
	define("parallel", Options{}, func(ctx context.Context, _ Input) (any, error) {
		results := group.Parallel(ctx, body("one", 1), body("two", 2),
			func(ctx context.Context) (any, error) {
				step.Sleep(ctx, "nap", time.Second)
				return nil, nil
			},
			func(ctx context.Context) (any, error) {
				return event(ctx, step.WaitForEventOpts{Event: app + "/never", Timeout: time.Second})
			},
		)
		values := []any{}
		for _, result := range results {
			values = append(values, result.Value)
		}
		return append(values, run(ctx, "last", 3)), results.AnyError()
	})

	define("race", Options{}, func(ctx context.Context, _ Input) (any, error) {
		options := group.ParallelOpts{ParallelMode: enums.ParallelModeRace}
		results := group.ParallelWithOpts(ctx, options, body("fast", "fast"), func(ctx context.Context) (any, error) {
			return step.Run(ctx, "slow", func(context.Context) (string, error) {
				time.Sleep(300 * time.Millisecond)
				return "late", nil
			})
		})
		return []any{results[0].Value, results[1].Value}, results.AnyError()
	})
}

// body returns a branch with one step.
func body[T any](id string, given T) branch {
	return func(ctx context.Context) (any, error) { return step.Run(ctx, id, value(given)) }
}

// event waits for an event, and returns its name and data, or nothing when the time has passed.
func event(ctx context.Context, options step.WaitForEventOpts) (any, error) {
	found, err := step.WaitForEvent[Event](ctx, "wait", options)
	if errors.Is(err, step.ErrEventNotReceived) {
		return nil, nil
	}
	return []any{found.Name, found.Data}, err
}

func now(context.Context) (int64, error) { return time.Now().UnixMilli(), nil }

func defineWaits() {
	define("sleep", Options{}, func(ctx context.Context, _ Input) (any, error) {
		start, _ := step.Run(ctx, "start", now)
		step.Sleep(ctx, "nap", time.Second)
		end, err := step.Run(ctx, "end", now)
		return end-start >= 1_000, err
	})

	define("sleep-until", Options{}, func(ctx context.Context, _ Input) (any, error) {
		start, _ := step.Run(ctx, "start", now)
		step.SleepUntil(ctx, "nap", time.UnixMilli(start+1_000))
		end, err := step.Run(ctx, "end", now)
		return end >= start+1_000, err
	})

	for _, id := range []string{"wait-if", "wait-match"} {
		define(id, Options{}, func(ctx context.Context, input Input) (any, error) {
			n, name := input.Event.Data["n"].(float64), app+"/"+id+"-answer"
			answers := []Event{{Name: name, Data: Data{"n": n + 1}}, {Name: name, Data: Data{"n": n}}}
			condition := pointer("async.data.n == event.data.n")
			results := group.Parallel(ctx,
				func(ctx context.Context) (any, error) {
					return event(ctx, step.WaitForEventOpts{Event: name, If: condition, Timeout: time.Minute})
				},
				func(ctx context.Context) (any, error) { return step.SendMany(ctx, "answer", answers) },
			)
			return results[0].Value, results.AnyError()
		})
	}

	define("wait-timeout", Options{}, func(ctx context.Context, _ Input) (any, error) {
		return event(ctx, step.WaitForEventOpts{Event: app + "/never", Timeout: time.Second})
	})

	define("wait-for-signal", Options{}, func(ctx context.Context, input Input) (any, error) {
		signal := "approve/" + input.InputCtx.RunID
		results := group.Parallel(ctx,
			func(ctx context.Context) (any, error) {
				options := step.WaitForSignalOpts{Signal: signal, Timeout: time.Minute}
				found, err := step.WaitForSignal[Data](ctx, "wait", options)
				return found.Data, err
			},
			func(ctx context.Context) (any, error) {
				return step.Run(ctx, "send", func(context.Context) (any, error) {
					return nil, sendSignal(signal, Data{"approved": true})
				})
			},
		)
		return results[0].Value, results.AnyError()
	})

	define("signal-timeout", Options{}, func(ctx context.Context, input Input) (any, error) {
		_, err := step.WaitForSignal[any](ctx, "wait", step.WaitForSignalOpts{
			Signal: "never/" + input.InputCtx.RunID, Timeout: time.Second, OnConflict: step.SignalConflictReplace,
		})
		if errors.Is(err, step.ErrSignalNotReceived) {
			return nil, nil
		}
		return nil, err
	})
}

// sendSignal sends a signal by a request, since this SDK has no step for it.
func sendSignal(signal string, data any) error {
	content, err := json.Marshal(Data{"signal": signal, "data": data})
	if err != nil {
		return err
	}
	address := os.Getenv("INNGEST_DEV") + "/v1/signals"
	response, err := http.Post(address, "application/json", bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return again(fmt.Errorf("the signal got status %d", response.StatusCode))
	}
	return nil
}

func defineEvents() {
	define("send-events", Options{}, func(ctx context.Context, _ Input) (any, error) {
		name := app + "/sent"
		events := []Event{{Name: name, Data: Data{"n": 1}}, {Name: name, Data: Data{"n": 2}}}
		lengths := []int{}
		ids, err := step.SendMany(ctx, "send", events)
		for _, id := range ids {
			lengths = append(lengths, len(id))
		}
		return lengths, err
	})

	define("sent", Options{}, number)

	define("send-from-code", Options{}, func(ctx context.Context, _ Input) (any, error) {
		_, err := client.Send(ctx, Event{Name: app + "/sent-from-code", Data: Data{"n": 1}})
		return "sent", err
	})

	define("sent-from-code", Options{}, number)
}
