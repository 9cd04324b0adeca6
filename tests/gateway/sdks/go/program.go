// The acceptance program in Go; it also serves what its functions request.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/step"
)

type message struct {
	Content string `json:"content"`
}

type question struct {
	Model    string    `json:"model"`
	Messages []message `json:"messages"`
}

type choice struct {
	Message message `json:"message"`
}

type completion struct {
	Choices []choice `json:"choices"`
}

func defineRequests() {
	define("fetch", Options{}, func(ctx context.Context, _ Input) (any, error) {
		request := step.FetchOpts{URL: url + "/echo", Method: http.MethodPost, Body: "hello"}
		answer, err := step.Fetch[string](ctx, "fetch", request)
		return []any{answer.StatusCode, answer.Body}, err
	})

	define("ai-infer", Options{}, func(ctx context.Context, _ Input) (any, error) {
		answer, err := step.Infer[question, completion](ctx, "ask", step.InferOpts[question]{
			Opts: step.InferOpenAIOpts(inngestgo.StrPtr("sk-test"), &url),
			Body: question{"small", []message{{"hi"}}},
		})
		if err != nil {
			return nil, err
		}
		return answer.Choices[0].Message.Content, nil
	})
}

func complete(response http.ResponseWriter, request *http.Request) {
	var asked question
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	reply(response, completion{[]choice{{message{asked.Model + ": " + asked.Messages[0].Content}}}})
}

func reply(response http.ResponseWriter, value any) {
	response.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(response).Encode(value); err != nil {
		log.Print(err)
	}
}

// counted counts the calls of functions by their ids, and serves the counts.
func counted(handler http.Handler) (http.Handler, http.HandlerFunc) {
	var lock sync.Mutex
	calls := map[string]int{}
	serve := func(response http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodPost {
			lock.Lock()
			calls[request.URL.Query().Get("fnId")]++
			lock.Unlock()
		}
		handler.ServeHTTP(response, request)
	}
	show := func(response http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		reply(response, calls)
	}
	return http.HandlerFunc(serve), show
}

func echo(response http.ResponseWriter, request *http.Request) {
	if _, err := io.Copy(response, request.Body); err != nil {
		log.Print(err)
	}
}

func main() {
	defineSteps()
	defineErrors()
	defineLimits()
	defineRequests()
	functions, calls := counted(client.Serve())
	http.Handle("/api/inngest", functions)
	http.HandleFunc("/calls", calls)
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/v1/chat/completions", complete)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
