package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// The parameter store holds, below root:
//
//	names/<name>                    uuid of the deployment that has the name; written without overwriting, so it is a claim
//	<uuid>/world/deployment         what Reflect tells of it
//	<uuid>/world/{ca,networks/<name>,sites/<name>,records/<owner>/<part>}
//	<uuid>/secrets/<name>           SecureString
const root = "/clearwater"

// largest is what a parameter of the free tier holds, in bytes.
const largest = 4096

func nameParameter(name string) string { return path.Join(root, "names", name) }
func worldParameter(id string, parts ...string) string {
	return path.Join(append([]string{root, id, "world"}, parts...)...)
}

var parameterName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,200}$`)

// secretParameter refuses names that would leave their place.
func secretParameter(id, name string) (string, error) {
	if !parameterName.MatchString(name) || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("secret name %q: allowed are letters, digits, - _ and .", name)
	}
	return path.Join(root, id, "secrets", name), nil
}

// put writes a parameter as text.
func (a *AWS) put(ctx context.Context, name, value string) error {
	_, err := a.ssm.PutParameter(ctx, &ssm.PutParameterInput{Name: &name, Value: &value, Type: types.ParameterTypeString, Overwrite: awssdk.Bool(true)})
	return explain("writing parameter "+name, err)
}

func (a *AWS) putJSON(ctx context.Context, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", name, err)
	}
	return a.put(ctx, name, string(text))
}

// get reads a parameter; platform.ErrNotFound when there is none.
func (a *AWS) get(ctx context.Context, name string) (string, error) {
	out, err := a.ssm.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: awssdk.Bool(true)})
	if missing(err) {
		return "", fmt.Errorf("parameter %s: %w", name, platform.ErrNotFound)
	}
	if err != nil {
		return "", explain("reading parameter "+name, err)
	}
	return awssdk.ToString(out.Parameter.Value), nil
}

// below reads every parameter under a path, by name.
func (a *AWS) below(ctx context.Context, under string) (map[string]string, error) {
	out := map[string]string{}
	pages := ssm.NewGetParametersByPathPaginator(a.ssm, &ssm.GetParametersByPathInput{Path: &under, Recursive: awssdk.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, explain("reading parameters below "+under, err)
		}
		for _, p := range page.Parameters {
			out[awssdk.ToString(p.Name)] = awssdk.ToString(p.Value)
		}
	}
	return out, nil
}

// remove deletes parameters; those that are not there are no error.
func (a *AWS) remove(ctx context.Context, names ...string) error {
	for batch := range slices.Chunk(names, 10) { // as many as one call takes
		if _, err := a.ssm.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: batch}); err != nil {
			return explain("deleting parameters "+strings.Join(batch, ", "), err)
		}
	}
	return nil
}

// GetSecret implements platform.Secrets.
func (a *AWS) GetSecret(ctx context.Context, deployment, name string) (string, error) {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return "", err
	}
	at, err := secretParameter(id, name)
	if err != nil {
		return "", err
	}
	text, err := a.get(ctx, at)
	if err != nil || !strings.HasPrefix(text, partsMark) {
		return text, err
	}
	return a.joined(ctx, at, text)
}

// partsMark begins a secret that is larger than a parameter; the number of its parts follows.
const partsMark = "parts:"

func (a *AWS) joined(ctx context.Context, at, text string) (string, error) {
	parts, err := strconv.Atoi(strings.TrimPrefix(text, partsMark))
	if err != nil {
		return "", fmt.Errorf("parameter %s: %w", at, err)
	}
	var b strings.Builder
	for i := range parts {
		part, err := a.get(ctx, partOf(at, i))
		if err != nil {
			return "", err
		}
		b.WriteString(part)
	}
	return b.String(), nil
}

func partOf(at string, i int) string { return fmt.Sprintf("%s/%d", at, i) }

// PutSecret implements platform.Secrets. The parts of a large one are written before the parameter that names them.
func (a *AWS) PutSecret(ctx context.Context, deployment, name, value string) error {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return err
	}
	at, err := secretParameter(id, name)
	if err != nil {
		return err
	}
	if value == "" {
		return fmt.Errorf("secret %s: a parameter cannot be empty", name)
	}
	if len(value) <= largest && !strings.HasPrefix(value, partsMark) {
		return a.putSecure(ctx, at, value)
	}
	parts := slices.Collect(slices.Chunk([]byte(value), largest))
	for i, part := range parts {
		if err := a.putSecure(ctx, partOf(at, i), string(part)); err != nil {
			return err
		}
	}
	return a.putSecure(ctx, at, fmt.Sprintf("%s%d", partsMark, len(parts)))
}

func (a *AWS) putSecure(ctx context.Context, at, value string) error {
	in := &ssm.PutParameterInput{Name: &at, Value: &value, Type: types.ParameterTypeSecureString, Overwrite: awssdk.Bool(true)}
	if a.cfg.KMSKey != "" {
		in.KeyId = &a.cfg.KMSKey
	}
	_, err := a.ssm.PutParameter(ctx, in)
	return explain("writing parameter "+at, err)
}

// DeleteSecret implements platform.Secrets.
func (a *AWS) DeleteSecret(ctx context.Context, deployment, name string) error {
	id, err := a.id(ctx, deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := secretParameter(id, name)
	if err != nil {
		return err
	}
	parts, err := a.below(ctx, at)
	if err != nil {
		return err
	}
	names := []string{at}
	for part := range parts {
		names = append(names, part)
	}
	return a.remove(ctx, names...)
}

// SecretReference implements platform.Secrets.
func (a *AWS) SecretReference(deployment, name string) (string, error) {
	at, err := secretParameter(deployment, name)
	if err != nil {
		return "", err
	}
	return "ssm:" + a.cfg.HomeRegion + ":" + at, nil
}
