// The client of the SDK, and one way to define the functions of the acceptance program.
package main

import (
	"cmp"
	"context"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/inngest/inngestgo"
	sdkerrors "github.com/inngest/inngestgo/errors"
	"github.com/inngest/inngestgo/pkg/checkpoint"
	"github.com/inngest/inngestgo/step"
)

type (
	Data    = map[string]any
	Input   = inngestgo.Input[Data]
	Event   = inngestgo.Event
	Options = inngestgo.FunctionOpts
	Handler = func(ctx context.Context, input Input) (any, error)
)

var (
	app    = cmp.Or(os.Getenv("APP"), "program")
	port   = cmp.Or(os.Getenv("PORT"), "8080")
	url    = "http://127.0.0.1:" + port
	client = newClient()
	// How often a body was called, by function and run: the memory of the process, which no step has.
	counts = map[string]int{}
	lock   sync.Mutex
)

func newClient() inngestgo.Client {
	options := inngestgo.ClientOpts{AppID: app}
	if os.Getenv("CHECKPOINTS") != "" {
		options.Checkpoint = checkpoint.ConfigSafe
	}
	made, err := inngestgo.NewClient(options)
	if err != nil {
		log.Fatal(err)
	}
	return made
}

// define adds a function that an event with its id as name starts, and returns the id by which it is invoked.
func define(id string, options Options, handler Handler) string {
	return defineIf(id, nil, options, handler)
}

func defineIf(id string, condition *string, options Options, handler Handler) string {
	return add(id, app+"/"+id, condition, options, handler)
}

func add(id, event string, condition *string, options Options, handler Handler) string {
	options.ID = id
	_, err := inngestgo.CreateFunction(client, options, inngestgo.EventTrigger(event, condition), handler)
	if err != nil {
		log.Fatal(err)
	}
	return app + "-" + id
}

// count counts a call, and returns how many there were.
func count(names ...string) int {
	lock.Lock()
	defer lock.Unlock()
	key := strings.Join(names, " ")
	counts[key]++
	return counts[key]
}

// value returns the body of a step that returns what is given.
func value[T any](given T) func(context.Context) (T, error) {
	return func(context.Context) (T, error) { return given, nil }
}

func run[T any](ctx context.Context, id string, given T) T {
	result, err := step.Run(ctx, id, value(given))
	if err != nil {
		panic(err)
	}
	return result
}

// again returns an error after which the next attempt starts in a second.
func again(message error) error {
	return sdkerrors.RetryAtError(message, time.Now().Add(time.Second))
}

func pointer[T any](given T) *T { return &given }

func number(_ context.Context, input Input) (any, error) { return input.Event.Data["n"], nil }
