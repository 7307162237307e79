package provision

import (
	"fmt"
	"net/http"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/profilexml"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
)

func (a *api) createSet(r *http.Request) (answer, error) {
	id, err := a.db.CreateSet(r.Context())
	return answer{status: http.StatusCreated, location: "/irs/" + id}, err
}

func (a *api) deleteSet(r *http.Request) (answer, error) {
	if _, err := a.db.Set(r.Context(), r.PathValue("irs")); err != nil {
		return answer{}, err
	}
	return answer{}, a.db.DeleteSet(r.Context(), r.PathValue("irs"))
}

func (a *api) setPublics(r *http.Request) (answer, error) {
	s, err := a.db.Set(r.Context(), r.PathValue("irs"))
	return answer{json: map[string][]string{"public_ids": s.Publics()}}, err
}

func (a *api) setPrivates(r *http.Request) (answer, error) {
	s, err := a.db.Set(r.Context(), r.PathValue("irs"))
	return answer{json: map[string][]string{"private_ids": append([]string{}, s.GetPrivateIds()...)}}, err
}

func (a *api) createProfile(r *http.Request) (answer, error) {
	irs := r.PathValue("irs")
	id, err := a.db.CreateProfile(r.Context(), irs)
	return answer{status: http.StatusCreated, location: profilePath(irs, id)}, err
}

func profilePath(irs, id string) string { return "/irs/" + irs + "/service_profiles/" + id }

func (a *api) deleteProfile(r *http.Request) (answer, error) {
	return answer{}, a.db.DeleteProfile(r.Context(), r.PathValue("irs"), r.PathValue("sp"))
}

// profile reads the profile that the path names.
func (a *api) profile(r *http.Request) (*subscribers.Profile, error) {
	_, p, err := a.db.SetOf(r.Context(), r.PathValue("irs"), r.PathValue("sp"))
	return p, err
}

func (a *api) profilePublics(r *http.Request) (answer, error) {
	p, err := a.profile(r)
	ids := []string{}
	for _, id := range p.GetPublicIds() {
		ids = append(ids, id.GetUri())
	}
	return answer{json: map[string][]string{"public_ids": ids}}, err
}

func (a *api) putPublic(r *http.Request) (answer, error) {
	text, err := body(r)
	if err != nil {
		return answer{}, err
	}
	id, err := profilexml.ParsePublicIdentity(text)
	if err != nil {
		return answer{}, err
	}
	key, err := subscribers.Key(id.Identity)
	if err != nil {
		return answer{}, err
	}
	if named, err := subscribers.Key(r.PathValue("impu")); err != nil || named != key {
		return answer{}, &status{http.StatusForbidden, fmt.Errorf("the Identity is %q, the URL names %q", id.Identity, r.PathValue("impu"))}
	}
	return answer{}, a.db.PutPublic(r.Context(), r.PathValue("irs"), r.PathValue("sp"),
		&subscribers.Public{Key: key, Uri: id.Identity, Barred: id.Barred, Extension: id.Extension})
}

func (a *api) deletePublic(r *http.Request) (answer, error) {
	p, err := a.profile(r)
	if err != nil {
		return answer{}, err
	}
	key, err := subscribers.Key(r.PathValue("impu"))
	if err != nil {
		return answer{}, err
	}
	if err := a.db.DeletePublic(r.Context(), r.PathValue("irs"), r.PathValue("sp"), key); err != nil {
		return answer{}, err
	}
	if p.Public(key) == nil {
		return answer{status: http.StatusNoContent}, nil
	}
	return answer{}, nil
}

func (a *api) getCriteria(r *http.Request) (answer, error) {
	p, err := a.profile(r)
	if err == nil && p.GetCriteria() == "" {
		err = fmt.Errorf("filter criteria of profile %s: %w", p.GetId(), subscribers.ErrNotFound)
	}
	return answer{xml: profilexml.ServiceProfile(p.GetCriteria())}, err
}

func (a *api) putCriteria(r *http.Request) (answer, error) {
	text, err := body(r)
	if err != nil {
		return answer{}, err
	}
	criteria, err := profilexml.ParseServiceProfile(text)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.db.PutCriteria(r.Context(), r.PathValue("irs"), r.PathValue("sp"), criteria)
}
